"""The signer of Bitcoin: held to BIP-143's own vector, and to the fee that it says."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import coincurve
import pytest
from btclib import b32, b58
from btclib.hashes import hash160
from btclib.script.script_pub_key import ScriptPubKey
from btclib.tx.out_point import OutPoint
from btclib.tx.tx import Tx
from btclib.tx.tx_in import TxIn
from btclib.tx.tx_out import TxOut
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.bitcoin import formats
from chains.bitcoin.payment import Aim, Coin, Plan, chosen, dust, fee_of, planned, terms_of, vsize
from chains.sending import Order, Terms
from signer.base import UnfitError
from signer.bitcoin import BitcoinSigner, digest

SIGNER = BitcoinSigner()
CHAIN = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"
MAIN = "bip122:000000000019d6689c085ae165831e93"
SECRET = sha256(b"a key of tests").digest()
WALLET = SIGNER.address(CHAIN, SECRET)
HOME = formats.script_of(CHAIN, WALLET)
PAYEES = [
    b58.address_from_h160("p2pkh", b"\x41" * 20, "regtest"),
    b58.address_from_h160("p2sh", b"\x42" * 20, "regtest"),
    b32.address_from_witness(0, b"\x43" * 20, "regtest"),
    b32.address_from_witness(0, b"\x44" * 32, "regtest"),
    b32.address_from_witness(1, b"\x45" * 32, "regtest"),
]
ORDER = Order(reference="order-1", chain=CHAIN, wallet=WALLET, asset=f"{CHAIN}/slip44:0", to=PAYEES[2], units=1_000_000)


def parent(*units: int, script: bytes = HOME, spends: bytes = b"\x01" * 32) -> Tx:
    outputs = [TxOut(each, ScriptPubKey(script), check_validity=False) for each in units]
    return Tx(2, 0, [TxIn(OutPoint(spends, 0), b"", 0xFFFFFFFF)], outputs, check_validity=False)


def coins_of(made: Tx) -> list[Coin]:
    return [Coin(made.id.hex(), index, out.value) for index, out in enumerate(made.vout)]


def terms(made: Tx, change: Sequence[int], fee: int, *, cancels: bool = False) -> Terms:
    plan = Plan(tuple(coins_of(made)), tuple(change), fee)
    return terms_of(plan, {made.id.hex(): made}, cancels=cancels, block=100)


FITS = terms(parent(700_000, 500_000), [190_000], 10_000)


def parsed(raw: str) -> Tx:
    return Tx.parse(bytes.fromhex(raw))


# --- what is signed --------------------------------------------------------------------------------------------------


def test_the_digest_is_that_of_bip_143() -> None:
    """Its example "Native P2WPKH", the second input. (github.com/bitcoin/bips, bip-0143.mediawiki; public domain)"""
    unsigned = parsed(
        "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffffef51e1b804cc89d182"
        "d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f66f"
        "85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac11000000"
    )
    key = coincurve.PrivateKey(bytes.fromhex("619c335025c7f4012e556c2a58b2506e30b8511b53ade95ea316fd8c3286feb9"))
    public = key.public_key.format()
    assert public.hex() == "025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357"
    made = digest(unsigned, 1, public, 600_000_000)
    assert made.hex() == "c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670"
    assert key.sign(made, hasher=None).hex() == (
        "304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f90300e8f3358f"
        "51928d43c212a8caed02de67eebee"
    )


def test_the_address_is_that_of_bip_84() -> None:
    """Its first receiving address, m/84'/0'/0'/0/0, of the key that it gives in WIF."""
    secret = coincurve.PrivateKey.from_hex("4604b4b710fe91f584fff084e1a9159fe4f8408fff380596a604948474ce4fa3").secret
    assert SIGNER.address(MAIN, secret) == "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"


def test_the_same_gets_the_same_bytes_and_every_input_is_signed() -> None:
    signed = SIGNER.build(SECRET, ORDER, FITS)
    assert SIGNER.build(SECRET, ORDER, FITS) == signed
    built = parsed(signed.raw)
    assert (built.id.hex(), built.version, built.lock_time) == (signed.chain_tx, 2, 0)
    assert [each.sequence for each in built.vin] == [0xFFFFFFFD] * 2
    assert [(out.value, bytes(out.script_pub_key.script)) for out in built.vout] == [
        (ORDER.units, formats.script_of(CHAIN, ORDER.to)),
        (190_000, HOME),
    ]
    assert (signed.fee_max, signed.conflicts, signed.ends) == (10_000, frozenset(FITS.inputs), None)
    half = int("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", 16)  # of the group's order
    for place, (spent, units) in enumerate(zip(built.vin, (700_000, 500_000), strict=True)):
        signature, public = spent.script_witness.stack
        assert hash160(public) == HOME[2:] and signature[-1] == 1 and len(signature) <= 72
        assert coincurve.PublicKey(public).verify(signature[:-1], digest(built, place, public, units), hasher=None)
        assert int.from_bytes(signature[-1 - signature[5 + signature[3]] : -1]) <= half, "a low S"


def test_what_cancels_pays_the_wallet_alone() -> None:
    built = parsed(SIGNER.build(SECRET, ORDER, terms(parent(700_000), [690_000], 10_000, cancels=True)).raw)
    assert [(out.value, bytes(out.script_pub_key.script)) for out in built.vout] == [(690_000, HOME)]


@given(
    units=st.lists(st.integers(300, 10**8), min_size=1, max_size=6),
    pays=st.integers(546, 10**8),
    rate=st.integers(1_000, 200_000),
    to=st.sampled_from(PAYEES),
    parts=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_what_is_planned_is_signed_and_costs_what_it_says(
    units: list[int], pays: int, rate: int, to: str, parts: int
) -> None:
    made = parent(*units)
    aim = Aim(formats.script_of(CHAIN, to), pays, HOME)
    plan = chosen(aim, coins_of(made), lambda size: fee_of(rate, size), parts=parts)
    if plan is None:  # then not even all of them would do
        bare = fee_of(rate, vsize(len(units), aim.scripts(0)))
        assert planned(aim, coins_of(made), lambda size: fee_of(rate, size)) is None and sum(units) < pays + bare
        return
    wanted = terms_of(plan, {made.id.hex(): made}, cancels=False, block=1)
    signed = SIGNER.build(SECRET, replace(ORDER, to=to, units=pays), wanted)
    built = parsed(signed.raw)
    taken = sum(made.vout[each.prev_out.vout].value for each in built.vin)
    assert taken == sum(out.value for out in built.vout) + signed.fee_max and signed.fee_max == wanted.fee_max
    # The size was reckoned with signatures of 72 bytes; most have 71, and with change nothing else is paid for.
    most = vsize(len(built.vin), [bytes(out.script_pub_key.script) for out in built.vout])
    assert built.vsize <= most <= built.vsize + len(built.vin)
    rest = signed.fee_max - fee_of(rate, most)
    assert rest == 0 if plan.change else 0 <= rest < dust(HOME) + fee_of(rate, 31) + 1
    assert all(out.value >= dust(bytes(out.script_pub_key.script)) for out in built.vout)
    smaller = [coin for coin in plan.coins if coin is not plan.coins[0]]
    assert not smaller or planned(aim, smaller, lambda size: fee_of(rate, size)) is None, "none that isn't needed"


@pytest.mark.parametrize(("to", "least"), list(zip(PAYEES, (546, 540, 294, 330, 330), strict=True)))
def test_dust_limits_are_bitcoin_core_s(to: str, least: int) -> None:
    assert dust(formats.script_of(CHAIN, to)) == least
    made = parent(10_000)
    SIGNER.build(SECRET, replace(ORDER, to=to, units=least), terms(made, [9_000], 1_000 - least))
    with pytest.raises(UnfitError, match="units"):
        SIGNER.build(SECRET, replace(ORDER, to=to, units=least - 1), terms(made, [9_000], 1_001 - least))


def test_a_fee_is_rounded_up() -> None:
    assert [fee_of(1_000, 141), fee_of(1_001, 141), fee_of(1, 1)] == [141, 142, 1]


# --- what is not -----------------------------------------------------------------------------------------------------


def test_nobody_can_lie_of_what_an_input_is_worth() -> None:
    """Two true signatures out of two versions, in each of which the other input was said to be worth little.

    A signature commits to the amount of its own input only. So the amounts come from the parents, whose ids the inputs
    name: a parent of which an amount was changed is another transaction.
    """
    true, lied = parent(70_000_000, 1_200_000), parent(10_000, 1_200_000)
    wanted = terms(true, [190_000], 70_010_000)
    assert SIGNER.build(SECRET, ORDER, wanted).fee_max == 70_010_000, "the policy sees the fee as it is"
    with pytest.raises(UnfitError, match="parents"):
        SIGNER.build(
            SECRET,
            ORDER,
            replace(wanted, fee_max=20_000, fields={**wanted.fields, "parents": [lied.serialize(False).hex()]}),
        )
    with pytest.raises(UnfitError, match="fee_max"):
        SIGNER.build(SECRET, ORDER, replace(wanted, fee_max=20_000))


def with_fields(**fields: object) -> Terms:
    return replace(FITS, fields={**FITS.fields, **fields})


UNFIT = {
    "another's wallet": (
        replace(ORDER, wallet=PAYEES[2]),
        terms(parent(1_200_000, script=formats.script_of(CHAIN, PAYEES[2])), [], 200_000),
    ),
    "another network": (replace(ORDER, chain=MAIN, asset=f"{MAIN}/slip44:0"), FITS),
    "no Bitcoin": (replace(ORDER, chain="eip155:1"), FITS),
    "a token": (replace(ORDER, asset=f"{CHAIN}/erc20:0x00"), FITS),
    "another chain's coin": (replace(ORDER, asset=f"{MAIN}/slip44:0"), FITS),
    "a tag": (replace(ORDER, tag="1"), FITS),
    "no address": (replace(ORDER, to="bcrt1q"), FITS),
    "an address in capitals": (replace(ORDER, to=PAYEES[2].upper()), FITS),
    "an address of another network": (replace(ORDER, to="bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"), FITS),
    "more than there is": (replace(ORDER, units=ORDER.units + 1), FITS),
    "less than was said": (replace(ORDER, units=ORDER.units - 1), FITS),
    "an end": (ORDER, replace(FITS, ends=1)),
    "another fee": (ORDER, replace(FITS, fee_max=10_001)),
    "a payment that cancels": (ORDER, replace(FITS, cancels=True)),
    "cancels to nobody": (ORDER, terms(parent(700_000), [], 700_000, cancels=True)),
    "inputs of nobody": (ORDER, replace(FITS, inputs=())),
    "an input twice": (ORDER, replace(FITS, inputs=FITS.inputs[:1] * 2, fee_max=210_000)),
    "an input that isn't there": (ORDER, replace(FITS, inputs=(FITS.inputs[0], FITS.inputs[0][:-1] + "7"))),
    "an input in capitals": (ORDER, replace(FITS, inputs=tuple(each.upper() for each in FITS.inputs))),
    "dust as change": (replace(ORDER, units=1_189_707), terms(parent(700_000, 500_000), [293], 10_000)),
    "change below zero": (ORDER, with_fields(change=["-1"])),
    "change as a number": (ORDER, with_fields(change=[190_000])),
    "change as a text": (ORDER, with_fields(change="190000")),
    "too many outputs": (ORDER, terms(parent(700_000, 500_000), [10_000] * 19, 10_000)),
    "more than there will ever be": (ORDER, terms(parent(22 * 10**14, 1_000_000), [21 * 10**14], 10**14)),
    "an output to another": (ORDER, terms(parent(1_200_000, script=formats.script_of(CHAIN, PAYEES[2])), [], 200_000)),
    "too many inputs": (ORDER, terms(parent(*[10_000] * 201), [], 1_010_000)),
    "another field": (ORDER, with_fields(units=["700000", "500000"])),
    "a field too few": (ORDER, replace(FITS, fields={"change": ["190000"], "block": "1"})),
    "parents that are none": (ORDER, with_fields(parents=["00"])),
    "parents that are no hex": (ORDER, with_fields(parents=["zz"])),
    "parents that are no list": (ORDER, with_fields(parents=None)),
    "no block": (ORDER, with_fields(block=None)),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_is_none_is_not_signed(what: str) -> None:
    order, wanted = UNFIT[what]
    with pytest.raises(UnfitError) as refused:
        SIGNER.build(SECRET, order, wanted)
    assert SECRET.hex() not in str(refused.value)


def test_more_parents_than_inputs_are_not_taken() -> None:
    other = parent(5_000, spends=b"\x02" * 32).serialize(False).hex()
    with pytest.raises(UnfitError, match="no others"):
        SIGNER.build(SECRET, ORDER, with_fields(parents=[*FITS.fields["parents"], other]))


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, b"\xff" * 32, b"\x01" * 33])
def test_a_key_that_is_none_is_told_without_its_bytes(secret: bytes) -> None:
    with pytest.raises(UnfitError, match="the key is none of secp256k1") as refused:
        SIGNER.build(secret, ORDER, FITS)
    assert refused.value.__cause__ is None and refused.value.__context__ is None
