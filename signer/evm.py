"""EVM chains: payments of the chain's coin and of ERC-20 tokens, and what cancels one.

After EIP-155 (a signature is for one chain), EIP-1559 and EIP-2718 (type 2), EIP-20 (`transfer`). Signatures are
deterministic (RFC 6979, by libsecp256k1). Amounts are in wei or the token's base units. eth_account is not used: it
brings py_ecc, which raises Python's limit of recursion so far that deep JSON ends the process.

`Terms.inputs` is one nonce, `0x.../7`, so each two versions of an order that share it exclude each other.
`Terms.fields`, decimal numbers as strings:

    gas, max_fee_per_gas, max_priority_fee_per_gas      type 2
    gas, gas_price                                      legacy, for chains that have no type 2
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
from coincurve import PrivateKey
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from chains.evm.formats import parse_address
from chains.sending import Order, Terms
from core.errors import InvalidRequestError
from signer.base import Signed, UnfitError

GAS_MIN, GAS_MAX = 21_000, 100_000_000
_U64_MAX, _U256_MAX = 2**64 - 1, 2**256 - 1
_SECRET_BYTES = _WORD = 32
_TYPE_2 = b"\x02"
_CHAIN = re.compile(r"eip155:([1-9][0-9]{0,31})")
_ASSET = re.compile(r"slip44:[0-9]{1,10}|erc20:(0x[0-9a-f]{40})")
_INPUT = re.compile(r"(0x[0-9a-fA-F]{40})/(0|[1-9][0-9]{0,19})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,77}")
_TRANSFER = bytes.fromhex("a9059cbb")
"""The first four bytes of keccak256("transfer(address,uint256)")."""
_PRICES = (frozenset({"gas", "max_fee_per_gas", "max_priority_fee_per_gas"}), frozenset({"gas", "gas_price"}))


@dataclass(frozen=True, slots=True)
class _Prices:
    gas: int
    most: int
    """Of a unit of gas."""
    tip: int | None
    """The priority fee of type 2; None: legacy."""


@dataclass(frozen=True, slots=True)
class _Call:
    to: bytes
    value: int
    data: bytes


class EvmSigner:
    def address(self, chain: str, secret: bytes) -> str:
        """EIP-55 mixed case, the same on every EVM chain."""
        _number_of(chain)
        return _address(_key(secret))

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        key = _key(secret)
        if order.wallet != _address(key):
            raise UnfitError("the wallet is not this key's")
        if order.tag is not None:
            raise UnfitError("payments on EVM chains carry no tag")
        if terms.ends is not None:
            raise UnfitError("on EVM chains nothing ends by time")
        prices, call = _priced(terms.fields), _called(order, terms)
        nonce = _nonce(order.wallet, terms.inputs)
        fee_max = prices.gas * prices.most
        if call.value + fee_max > _U256_MAX:
            raise UnfitError("it would cost more than there can be")
        raw = _signed(key, _number_of(order.chain), nonce, prices, call)
        return Signed(
            chain_tx="0x" + keccak(raw).hex(),
            raw=raw.hex(),
            fee_max=fee_max,
            conflicts=frozenset({f"{order.wallet}/{nonce}"}),
        )


def _key(secret: bytes) -> PrivateKey:
    try:
        if len(secret) == _SECRET_BYTES:  # the library takes shorter ones
            return PrivateKey(secret)
    except ValueError:
        pass
    raise UnfitError("the key is none of secp256k1")


def _address(key: PrivateKey) -> str:
    return str(to_checksum_address(keccak(key.public_key.format(compressed=False)[1:])[-20:]))


def _signed(key: PrivateKey, chain: int, nonce: int, prices: _Prices, call: _Call) -> bytes:
    what = [call.to, call.value, call.data]
    if prices.tip is None:
        fields = [nonce, prices.most, prices.gas, *what]
        v, r, s = _signature(key, rlp.encode([*fields, chain, 0, 0]))
        return bytes(rlp.encode([*fields, 35 + 2 * chain + v, r, s]))
    fields = [chain, nonce, prices.tip, prices.most, prices.gas, *what, []]
    return _TYPE_2 + bytes(rlp.encode([*fields, *_signature(key, _TYPE_2 + rlp.encode(fields))]))


def _signature(key: PrivateKey, text: bytes) -> tuple[int, int, int]:
    """The parity of y, r, and the lower s (EIP-2)."""
    found = key.sign_recoverable(keccak(text), hasher=None)
    return found[64], int.from_bytes(found[:32]), int.from_bytes(found[32:64])


def _number_of(chain: str) -> int:
    match = _CHAIN.fullmatch(chain)
    if match is None:
        raise UnfitError("the chain is no EVM chain")
    return int(match[1])


def _nonce(wallet: str, inputs: tuple[str, ...]) -> int:
    match = _INPUT.fullmatch(inputs[0]) if len(inputs) == 1 else None
    if match is None or match[1] != wallet:
        raise UnfitError("on EVM chains the one input is the wallet's address, a slash and a nonce")
    nonce = int(match[2])
    if nonce >= _U64_MAX:  # EIP-2681
        raise UnfitError("there is no such nonce")
    return nonce


def _called(order: Order, terms: Terms) -> _Call:
    if terms.cancels:
        return _Call(_bytes(order.wallet), 0, b"")
    on, _, reference = order.asset.partition("/")
    match = _ASSET.fullmatch(reference)
    if on != order.chain or match is None:
        raise UnfitError("the asset is neither the chain's coin nor an ERC-20 token of it")
    if not 0 < order.units <= _U256_MAX:
        raise UnfitError("the units are none that an EVM chain can move")
    recipient = _recipient(order)
    if match[1] is None:
        return _Call(recipient, order.units, b"")
    data = _TRANSFER + recipient.rjust(_WORD, b"\0") + order.units.to_bytes(_WORD)
    return _Call(_bytes(match[1]), 0, data)


def _bytes(address: str) -> bytes:
    return bytes.fromhex(address.removeprefix("0x"))


def _recipient(order: Order) -> bytes:
    try:
        canonical = parse_address(order.chain, order.to)
    except InvalidRequestError:
        canonical = None
    if canonical is None or canonical != order.to:
        raise UnfitError("the recipient is no address in EIP-55 spelling")
    return _bytes(canonical)


def _priced(fields: Mapping[str, Any]) -> _Prices:
    if frozenset(fields) not in _PRICES:
        raise UnfitError(f"the fields are {' or '.join(', '.join(sorted(each)) for each in _PRICES)}")
    numbers = {name: _number(name, value) for name, value in fields.items()}
    gas = numbers["gas"]
    if not GAS_MIN <= gas <= GAS_MAX:
        raise UnfitError(f"gas is from {GAS_MIN} to {GAS_MAX}")
    if "gas_price" in numbers:
        return _Prices(gas, numbers["gas_price"], None)
    price, tip = numbers["max_fee_per_gas"], numbers["max_priority_fee_per_gas"]
    if tip > price:
        raise UnfitError("max_priority_fee_per_gas is more than max_fee_per_gas")
    return _Prices(gas, price, tip)


def _number(name: str, value: object) -> int:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or int(value) > _U256_MAX:
        raise UnfitError(f"{name} is a decimal number as a string")
    return int(value)
