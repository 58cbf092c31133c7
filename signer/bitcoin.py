"""Bitcoin: payments out of one P2WPKH address, and what cancels one.

After BIP-84 (the address of a compressed key), BIP-141 and BIP-143 (what a SegWit signature signs), BIP-125
(replaceable). Signatures are deterministic (RFC 6979) and have a low S (BIP-146). What is built, and what
`Terms.fields` are: `chains.bitcoin.payment`.

The fee is inputs less outputs. What the inputs are worth is read from the transactions that made them, which come with
the terms and have the ids that the inputs name; so nobody can have more signed away than the policy sees. That such an
output is there at all, and unspent, is the chain's to know: without it the signature is of no use.
"""

import re

import coincurve
from btclib import b32
from btclib.hashes import hash160
from btclib.script.script_pub_key import ScriptPubKey
from btclib.script.sig_hash import segwit_v0
from btclib.script.witness import Witness
from btclib.tx.out_point import OutPoint
from btclib.tx.tx import Tx
from btclib.tx.tx_in import TxIn
from btclib.tx.tx_out import TxOut

from chains.bitcoin import formats
from chains.bitcoin.parse import UNITS_MAX
from chains.bitcoin.payment import INPUTS_MAX, WEIGHT_MAX, Plan, Written, dust, written
from chains.sending import Order, Terms
from core.errors import InvalidRequestError
from signer.base import Signed, UnfitError

SECRET_BYTES = 32
CHANGE_MAX = 16
_VERSION = 2
_REPLACEABLE = 0xFFFFFFFD
"""BIP-125; and no relative lock (BIP-68)."""
_ALL = 1
"""SIGHASH_ALL: all inputs and outputs are signed."""
_ASSET = re.compile(r"slip44:[0-9]{1,10}")


class BitcoinSigner:
    def address(self, chain: str, secret: bytes) -> str:
        """P2WPKH, bech32 in lower case."""
        return _address(chain, _key(secret).public_key.format())

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        key = _key(secret)
        public = key.public_key.format()
        if order.wallet != _address(order.chain, public):
            raise UnfitError("the wallet is not this key's")
        if order.tag is not None:
            raise UnfitError("payments on Bitcoin carry no tag")
        if terms.ends is not None:
            raise UnfitError("on Bitcoin nothing ends by time")
        try:
            said = written(terms)
        except ValueError as error:
            raise UnfitError(str(error)) from None
        plan = said.plan
        outputs = [*([] if terms.cancels else [_paid(order)]), *_change(order, plan)]
        _check(order, said, outputs)
        built = Tx(
            _VERSION,
            0,
            [TxIn(OutPoint(coin.chain_tx, coin.index), b"", _REPLACEABLE) for coin in plan.coins],
            [TxOut(units, ScriptPubKey(script)) for units, script in outputs],
        )
        _sign(built, key, public, [coin.units for coin in plan.coins])
        if built.weight > WEIGHT_MAX:
            raise UnfitError("it is larger than nodes pass on")
        return Signed(
            chain_tx=built.id.hex(),
            raw=built.serialize(include_witness=True).hex(),
            fee_max=plan.fee,
            conflicts=frozenset(coin.name for coin in plan.coins),
        )


def _key(secret: bytes) -> coincurve.PrivateKey:
    try:
        if len(secret) == SECRET_BYTES:  # the library takes shorter ones
            return coincurve.PrivateKey(secret)
    except (ValueError, TypeError):
        pass
    raise UnfitError("the key is none of secp256k1")


def _address(chain: str, public: bytes) -> str:
    return b32.address_from_witness(0, hash160(public), _network(chain))


def _network(chain: str) -> str:
    try:
        return formats.network(chain)
    except InvalidRequestError:
        raise UnfitError("the chain is no Bitcoin network") from None


def _paid(order: Order) -> tuple[int, bytes]:
    on, _, reference = order.asset.partition("/")
    if on != order.chain or not _ASSET.fullmatch(reference):
        raise UnfitError("the asset is not the chain's coin")
    try:
        canonical = formats.parse_address(order.chain, order.to)
    except InvalidRequestError:
        canonical = None
    if canonical is None or canonical != order.to:
        raise UnfitError("the recipient is no address in the chain's spelling")
    script = formats.script_of(order.chain, order.to)
    if not dust(script) <= order.units <= UNITS_MAX:
        raise UnfitError("the units are none that nodes pass on")
    return order.units, script


def _change(order: Order, plan: Plan) -> list[tuple[int, bytes]]:
    home = formats.script_of(order.chain, order.wallet)
    if len(plan.change) > CHANGE_MAX:
        raise UnfitError(f"change has {CHANGE_MAX} outputs at most")
    if any(not dust(home) <= units <= UNITS_MAX for units in plan.change):
        raise UnfitError("change of an amount that nodes don't pass on")
    return [(units, home) for units in plan.change]


def _check(order: Order, said: Written, outputs: list[tuple[int, bytes]]) -> None:
    coins, home = said.plan.coins, formats.script_of(order.chain, order.wallet)
    if not 1 <= len(coins) <= INPUTS_MAX:
        raise UnfitError(f"it has 1 to {INPUTS_MAX} inputs")
    if not outputs:
        raise UnfitError("it pays nobody and brings nothing back")
    if any(said.script(coin) != home or not 1 <= coin.units <= UNITS_MAX for coin in coins):
        raise UnfitError("an input is no output to the wallet")
    fee = sum(coin.units for coin in coins) - sum(units for units, _ in outputs)
    if fee < 0 or fee != said.plan.fee:
        raise UnfitError("fee_max is not what the inputs have more than the outputs")


def _sign(built: Tx, key: coincurve.PrivateKey, public: bytes, units: list[int]) -> None:
    """The witness of each input: a signature over all of it, and the public key."""
    # The witnesses are put in at the end: what is signed has none.
    witnesses = [
        Witness([key.sign(digest(built, place, public, worth), hasher=None) + bytes([_ALL]), public])
        for place, worth in enumerate(units)
    ]
    for spent, witness in zip(built.vin, witnesses, strict=True):
        spent.script_witness = witness


def digest(built: Tx, place: int, public: bytes, units: int) -> bytes:
    """What the signature of this input signs, by BIP-143. The script code of P2WPKH is that of P2PKH."""
    code = b"\x76\xa9\x14" + hash160(public) + b"\x88\xac"
    return segwit_v0(code, built, place, _ALL, units)
