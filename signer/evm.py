"""EVM chains: payments of the chain's coin and of ERC-20 tokens, and what cancels one.

After EIP-155 (a signature is for one chain), EIP-1559 and EIP-2718 (type 2), EIP-20 (`transfer`). Signatures are
deterministic (RFC 6979). Amounts are in wei or the token's base units.

`Terms.inputs` is one nonce, `0x.../7`, so each two versions of an order that share it exclude each other.
`Terms.fields`, decimal numbers as strings:

    gas, max_fee_per_gas, max_priority_fee_per_gas      type 2
    gas, gas_price                                      legacy, for chains that have no type 2
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from eth_account import Account
from eth_utils.address import to_checksum_address

from chains.evm.formats import parse_address
from chains.sending import Order, Terms
from core.errors import InvalidRequestError
from signer.base import Signed, UnfitError

GAS_MIN, GAS_MAX = 21_000, 100_000_000
_U64_MAX, _U256_MAX = 2**64 - 1, 2**256 - 1
_CHAIN = re.compile(r"eip155:([1-9][0-9]{0,31})")
_ASSET = re.compile(r"slip44:[0-9]{1,10}|erc20:(0x[0-9a-f]{40})")
_INPUT = re.compile(r"(0x[0-9a-fA-F]{40})/(0|[1-9][0-9]{0,19})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,77}")
_TRANSFER = bytes.fromhex("a9059cbb")
"""The first four bytes of keccak256("transfer(address,uint256)")."""
_PRICES = (frozenset({"gas", "max_fee_per_gas", "max_priority_fee_per_gas"}), frozenset({"gas", "gas_price"}))


class EvmSigner:
    def address(self, chain: str, secret: bytes) -> str:
        """EIP-55 mixed case, the same on every EVM chain."""
        _number_of(chain)
        return str(self._account(secret).address)

    def build(self, secret: bytes, order: Order, terms: Terms) -> Signed:
        account = self._account(secret)
        if order.wallet != account.address:
            raise UnfitError("the wallet is not this key's")
        if order.tag is not None:
            raise UnfitError("payments on EVM chains carry no tag")
        if terms.ends is not None:
            raise UnfitError("on EVM chains nothing ends by time")
        gas, prices, price_max = _priced(terms.fields)
        transaction: dict[str, Any] = {
            **_paid(order, terms),
            **prices,
            "chainId": _number_of(order.chain),
            "nonce": _nonce(order.wallet, terms.inputs),
            "gas": gas,
        }
        if transaction["value"] + gas * price_max > _U256_MAX:
            raise UnfitError("it would cost more than there can be")
        signed = account.sign_transaction(transaction)
        return Signed(
            chain_tx="0x" + bytes(signed.hash).hex(),
            raw=bytes(signed.raw_transaction).hex(),
            fee_max=gas * price_max,
            conflicts=frozenset({f"{order.wallet}/{transaction['nonce']}"}),
        )

    @staticmethod
    def _account(secret: bytes) -> Any:
        with suppress(Exception):  # libraries differ in what they raise, and the words of some hold the key
            return Account.from_key(secret)
        raise UnfitError("the key is none of secp256k1")


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


def _paid(order: Order, terms: Terms) -> dict[str, Any]:
    """Whom the chain transaction calls, with how much coin and which data."""
    if terms.cancels:
        return {"to": order.wallet, "value": 0, "data": b""}
    on, _, reference = order.asset.partition("/")
    match = _ASSET.fullmatch(reference)
    if on != order.chain or match is None:
        raise UnfitError("the asset is neither the chain's coin nor an ERC-20 token of it")
    if not 0 < order.units <= _U256_MAX:
        raise UnfitError("the units are none that an EVM chain can move")
    recipient = _recipient(order)
    if match[1] is None:
        return {"to": recipient, "value": order.units, "data": b""}
    data = _TRANSFER + bytes.fromhex(recipient[2:]).rjust(32, b"\0") + order.units.to_bytes(32, "big")
    return {"to": to_checksum_address(match[1]), "value": 0, "data": data}


def _recipient(order: Order) -> str:
    try:
        canonical = parse_address(order.chain, order.to)
    except InvalidRequestError:
        canonical = None
    if canonical is None or canonical != order.to:
        raise UnfitError("the recipient is no address in EIP-55 spelling")
    return canonical


def _priced(fields: Mapping[str, Any]) -> tuple[int, dict[str, Any], int]:
    """Gas, what the chain transaction says of its price, and the most a unit of gas may cost."""
    if frozenset(fields) not in _PRICES:
        raise UnfitError(f"the fields are {' or '.join(', '.join(sorted(each)) for each in _PRICES)}")
    numbers = {name: _number(name, value) for name, value in fields.items()}
    gas = numbers["gas"]
    if not GAS_MIN <= gas <= GAS_MAX:
        raise UnfitError(f"gas is from {GAS_MIN} to {GAS_MAX}")
    if "gas_price" in numbers:
        return gas, {"gasPrice": numbers["gas_price"]}, numbers["gas_price"]
    price, tip = numbers["max_fee_per_gas"], numbers["max_priority_fee_per_gas"]
    if tip > price:
        raise UnfitError("max_priority_fee_per_gas is more than max_fee_per_gas")
    return gas, {"type": 2, "maxFeePerGas": price, "maxPriorityFeePerGas": tip}, price


def _number(name: str, value: object) -> int:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or int(value) > _U256_MAX:
        raise UnfitError(f"{name} is a decimal number as a string")
    return int(value)
