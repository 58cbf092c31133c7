"""How Bitcoin spells addresses, transactions, extended keys and payment requests (BIP-13, 32, 84, 49, 173, 350, 21).

Payments carry no tag: a memo would be an output of its own, which few wallets can write. Who paid the chain does not
say. No message repeats what was given: somebody may have pasted a private key.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from btclib import b32, b58, base58
from btclib.exceptions import BTClibTypeError, BTClibValueError
from btclib.hashes import hash160
from btclib.network import NETWORKS, xprvversions_from_network

from core.errors import InvalidRequestError

TELLS_PAYER = False
TAKES_TAGS = False
DERIVES = True

SCALE = 8
"""A unit is a satoshi: 10^-8 BTC."""

_GENESIS_DIGITS = 32
NETWORK_OF = {f"bip122:{network.genesis_block.hex()[:_GENESIS_DIGITS]}": name for name, network in NETWORKS.items()}
"""CAIP-2 id -> btclib's name of the network: mainnet, testnet, testnet4, signet, regtest."""

_ADDRESS = re.compile(r"[0-9A-Za-z]{14,90}")
_CHAIN_TX = re.compile(r"[0-9a-fA-F]{64}")
_EXTENDED_BYTES = 78
_ACCOUNT_DEPTH = 3
_BRANCH_DEPTH = 4
_HARDENED = 2**31
_PRIVATE_VERSIONS = {version for name in NETWORKS for version in xprvversions_from_network(name)}

_WITNESS_PROGRAMS = {(0, 20), (0, 32), (1, 32)}
"""Version and length: P2WPKH, P2WSH, P2TR. Of later versions nobody knows yet what they will mean."""


def network(chain: str) -> str:
    """The name that btclib has for it. Raises InvalidRequestError for other chains that descend from Bitcoin's code."""
    name = NETWORK_OF.get(chain)
    if name is None:
        raise InvalidRequestError(f"the chain {chain!r} is not supported", field="chain")
    return name


def parse_address(chain: str, text: str) -> str:
    """P2PKH, P2SH, P2WPKH, P2WSH or P2TR; bech32 in lower case, also if it came in upper case from a QR code.

    The test networks share their prefixes, except regtest's `bcrt`: an address of one is one of the others too.
    """
    return address_of(chain, script_of(chain, text)) or ""


@lru_cache(maxsize=65_536)  # the same addresses are watched in each scan
def script_of(chain: str, text: str) -> bytes:
    """The output script that an address stands for."""
    name = network(chain)
    if not _ADDRESS.fullmatch(text):
        raise _malformed(chain, "of 14 to 90 letters and digits")
    try:
        if b32.is_segwit_prefixed(text):
            version, program, _ = b32.witness_from_address(text)
            if (version, len(program)) not in _WITNESS_PROGRAMS:
                raise _malformed(chain, "P2WPKH, P2WSH or P2TR, not of another witness version")
            # Encoding it again tells the network, and leaves one spelling of each address.
            if b32.address_from_witness(version, program, name) != text.lower():
                raise _malformed(chain, "of this network, not of another")
            return bytes([version and 0x50 + version, len(program)]) + program
        kind, digest, _ = b58.h160_from_address(text)
        if kind not in ("p2pkh", "p2sh") or b58.address_from_h160(kind, digest, name) != text:
            raise _malformed(chain, "of this network, not of another")
    except (BTClibValueError, BTClibTypeError):
        raise _malformed(chain, "base58 or bech32 with its checksum") from None
    return b"\xa9\x14" + digest + b"\x87" if kind == "p2sh" else b"\x76\xa9\x14" + digest + b"\x88\xac"


def address_of(chain: str, script: bytes) -> str | None:
    """The canonical address that an output script pays, or None if it is none of those `parse_address` takes."""
    name = network(chain)
    match script[:2], len(script):
        case (b"\x00\x14", 22) | (b"\x00\x20", 34):
            return b32.address_from_witness(0, script[2:], name)
        case (b"\x51\x20", 34):
            return b32.address_from_witness(1, script[2:], name)
        case (b"\xa9\x14", 23) if script.endswith(b"\x87"):
            return b58.address_from_h160("p2sh", script[2:-1], name)
        case (b"\x76\xa9", 25) if script[2] == 0x14 and script.endswith(b"\x88\xac"):  # noqa: PLR2004
            return b58.address_from_h160("p2pkh", script[3:-2], name)
    return None


def _malformed(chain: str, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"this is not an address of {chain}: it must be {wanted}", field="address")


def parse_chain_tx(chain: str, text: str) -> str:
    """64 hex digits in lower case, in the order that explorers and nodes print them."""
    if not _CHAIN_TX.fullmatch(text):
        raise InvalidRequestError(f"this is not a transaction id of {chain}: 64 hex digits", field="chain_tx")
    return text.lower()


def parse_tag(chain: str, text: str) -> str:  # noqa: ARG001  # the interface's
    raise InvalidRequestError(f"payments on {chain} carry no tag", field="tag")


def new_tag(chain: str) -> str:
    return parse_tag(chain, "")


# Extended keys


def check_extended_key(chain: str, key: str) -> str:
    """Of an account or of its external branch, and of this network.

    A master key (depth 0) is refused: addresses right below it are no wallet's, and it would show all other accounts.
    """
    _unpacked(chain, key)
    return key


def derive(chain: str, key: str, index: int) -> str:
    """The address of the external branch's child `index`.

    | Key | Depth | Path | Address |
    |---|---|---|---|
    | xpub, zpub (test networks: tpub, vpub) of an account, m/84'/0'/n' | 3 | 0/index | P2WPKH (BIP-84) |
    | ypub (upub) of an account, m/49'/0'/n' | 3 | 0/index | P2WPKH in P2SH (BIP-49) |
    | any of these of the external branch, m/84'/0'/n'/0 | 4 | index | the same |

    An xpub says nothing of the kind of address (SLIP-132 reads it as P2PKH, descriptors as whatever is written around
    it); here it means P2WPKH.
    """
    if not 0 <= index < _HARDENED:
        raise InvalidRequestError(f"there is no child {index}: 0 to {_HARDENED - 1}", field="index")
    branch, nested = _unpacked(chain, key)
    digest = hash160(branch([index]))
    name = network(chain)
    if nested:
        return b58.address_from_h160("p2sh", hash160(b"\x00\x14" + digest), name)
    return b32.address_from_witness(0, digest, name)


def _unpacked(chain: str, key: str) -> tuple[Callable[[list[int]], bytes], bool]:
    """From a path below the external branch to the public key there; and whether its addresses are P2WPKH in P2SH."""
    from bip32 import BIP32  # type: ignore[import-untyped]

    ours = NETWORKS[network(chain)]
    plain, nested = {ours.bip32_pub, ours.slip132_p2wpkh_pub}, {ours.slip132_p2wpkh_p2sh_pub}
    try:
        raw = base58.decode(key, _EXTENDED_BYTES)
    except (BTClibValueError, BTClibTypeError):
        raise _refused("it is not base58 of 78 bytes with its checksum") from None
    version, depth, number = raw[:4], raw[4], int.from_bytes(raw[9:13])
    if version in _PRIVATE_VERSIONS or raw[45] == 0:
        raise _refused("it is private: such a key must never be given to anybody, and has to be given up now")
    if version not in plain | nested:
        raise _refused(f"it is of another network than {chain}, or of another kind than xpub, ypub and zpub")
    if depth not in (_ACCOUNT_DEPTH, _BRANCH_DEPTH):
        raise _refused(f"its depth is {depth}; an account's is {_ACCOUNT_DEPTH}, its external branch's {_BRANCH_DEPTH}")
    if depth == _BRANCH_DEPTH and number != 0:
        raise _refused(f"it is branch {number} of an account; the external one is 0, and 1 is the wallet's change")
    try:
        # The library knows BIP-32's own version bytes only; on a test network too it is the same mathematics.
        extended = BIP32.from_xpub(base58.encode(NETWORKS["mainnet"].bip32_pub + raw[4:]).decode())
    except ValueError:
        raise _refused("it holds no point of the curve") from None
    above = [0] if depth == _ACCOUNT_DEPTH else []
    return lambda path: extended.get_pubkey_from_path(above + path), version in nested


def _refused(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"this extended key can't be used: {why}", field="key")


# Payment requests


def payment_uri(
    chain: str,
    address: str,
    *,
    asset: str,
    scale: int,  # noqa: ARG001  # a satoshi is what it is
    units: int | None = None,
    tag: str | None = None,
) -> str | None:
    """BIP-21: `bitcoin:<address>?amount=<BTC>`, the amount exact and without needless zeros. On test networks too."""
    if tag is not None:
        parse_tag(chain, tag)
    if asset.partition("/")[2].partition(":")[0] != "slip44":
        return None
    uri = f"bitcoin:{parse_address(chain, address)}"
    if units is None:
        return uri
    whole, part = divmod(units, 10**SCALE)
    amount = f"{whole}.{part:0{SCALE}d}".rstrip("0").rstrip(".")
    return f"{uri}?amount={amount}"
