"""What the double knows of accounts, and how it takes a signed transaction: java-tron's Wallet.broadcastTransaction.

Fees are what the main network asks for, with nothing staked and nothing free. Execution: TRX and tokens move by their
balances here, of accounts that `Accounts` has; others pay with whatever they like (node.py).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coincurve import PublicKey
from eth_utils.crypto import keccak

from chains.tron import formats
from tests.support.tron import wire

if TYPE_CHECKING:
    from tests.support.tron.node import TronChain

ENERGY_SUN = 100
ENERGY = 64_285
ENERGY_NEW = 130_285
"""Of a transfer of USDT to somebody who has some, and to somebody who has none."""
DAY_MS = 86_400_000


@dataclass
class Accounts:
    """By the address in hex."""

    coins: dict[str, int] = field(default_factory=dict)
    tokens: dict[tuple[str, str], int] = field(default_factory=dict)
    """By contract and holder."""
    contracts: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    """Contracts whose `transfer` is undone."""
    fees_taken: dict[str, int] = field(default_factory=dict)
    """Of each, what a transfer of this contract withholds."""
    prices: dict[str, int] = field(
        default_factory=lambda: {
            "getTransactionFee": 1_000,
            "getEnergyFee": ENERGY_SUN,
            "getMemoFee": 1_000_000,
            "getCreateAccountFee": 100_000,
            "getCreateNewAccountFeeInSystemContract": 1_000_000,
        }
    )
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each transaction that came in hex."""

    def energy(self, token: str, recipient: str) -> int:
        return ENERGY if self.tokens.get((token, recipient)) else ENERGY_NEW

    def run(self, id_: str, raw: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Whether it succeeded, and what its info says of costs."""
        contract = raw["contract"][0]
        value = contract["parameter"]["value"]
        owner = value["owner_address"]
        net = self.sizes[id_] * self.prices["getTransactionFee"] + (self.prices["getMemoFee"] if "data" in raw else 0)
        if contract["type"] == "TransferContract":
            if value["to_address"] not in self.coins:
                net += self.prices["getCreateAccountFee"] + self.prices["getCreateNewAccountFeeInSystemContract"]
            self.coins[owner] -= value["amount"] + net
            self.coins[value["to_address"]] = self.coins.get(value["to_address"], 0) + value["amount"]
            return True, {"fee": net, "receipt": {"net_fee": net}}
        token, recipient, units = value["contract_address"], *called(value["data"])
        energy = self.energy(token, recipient) * self.prices["getEnergyFee"]
        done = self.tokens.get((token, owner), 0) >= units and energy <= raw["fee_limit"]
        burnt = energy if done else min(energy, raw["fee_limit"])
        self.coins[owner] -= burnt + net
        if done:
            self.tokens[token, owner] -= units
            self.tokens[token, recipient] = self.tokens.get((token, recipient), 0) + units
        return done, {"fee": burnt + net, "receipt": {"energy_fee": burnt, "net_fee": net}}


def called(data: str) -> tuple[str, int]:
    """Recipient and units of a `transfer`."""
    return "41" + data[8 + 24 : 8 + 64], int(data[8 + 64 :], 16)


def get_account(chain: "TronChain", params: dict[str, Any], _upto: int) -> Any:
    address = _in_hex(params["address"])
    if address not in chain.accounts.coins:
        return {}
    told: dict[str, Any] = {"address": params["address"], "create_time": 1_600_000_000_000}
    if address in chain.accounts.contracts:
        told["type"] = "Contract"
    if units := chain.accounts.coins[address]:
        told["balance"] = units
    return told


def get_parameters(chain: "TronChain", _params: dict[str, Any], _upto: int) -> Any:
    rows = [{"key": key} | ({"value": value} if value else {}) for key, value in chain.accounts.prices.items()]
    return {"chainParameter": [*rows, {"key": "getMarketSellFee"}]}


def try_call(chain: "TronChain", params: dict[str, Any], _upto: int) -> Any:
    accounts, token = chain.accounts, _in_hex(params["contract_address"])
    data = keccak(params["function_selector"].encode())[:4].hex() + params["parameter"]
    if not any(contract == token for contract, _ in accounts.tokens):
        words = "Smart contract is not exist."
        return {"result": {"code": "CONTRACT_VALIDATE_ERROR", "message": words.encode().hex()}}
    if data.startswith("70a08231"):
        held = accounts.tokens.get((token, "41" + data[32:]), 0)
        return {"result": {"result": True}, "energy_used": 935, "constant_result": [f"{held:064x}"]} | _ret()
    owner, (recipient, units) = _in_hex(params["owner_address"]), called(data)
    if token in accounts.refusing or accounts.tokens.get((token, owner), 0) < units:
        undone = {"result": True, "message": b"REVERT opcode executed".hex()}
        return {"result": undone, "energy_used": 2_000, "constant_result": [""]} | _ret("FAILED")
    fee = accounts.fees_taken.get(token, 0)
    sender, to = (formats.spelled(bytes.fromhex(address)) for address in (owner, recipient))
    contract = formats.spelled(bytes.fromhex(token))
    logs = [chain.token_log(contract, sender, to, units - fee)]
    answer = {"result": {"result": True}, "energy_used": accounts.energy(token, recipient), "logs": logs}
    return answer | {"constant_result": ["0" * 64]} | _ret()


def _in_hex(address: str) -> str:
    """With `visible` it is base58."""
    return formats.raw_address("", address).hex()


def _ret(ret: str | None = None) -> dict[str, Any]:
    return {"transaction": {"ret": [{} if ret is None else {"ret": ret}]}}


def broadcast_hex(chain: "TronChain", params: dict[str, Any], _upto: int) -> Any:
    """As the servlet answers: its message is text here, and hex in `broadcasttransaction`."""
    content = bytes.fromhex(params["transaction"])
    raw, signatures = wire.read_transaction(content)
    id_ = hashlib.sha256(wire.raw_data(raw)).hexdigest()
    code, words = _verdict(chain, id_, raw, signatures)
    told: dict[str, Any] = {"result": code == "SUCCESS", "code": code, "message": words, "txid": id_, "transaction": ""}
    if code == "SUCCESS":
        chain.accounts.sizes[id_] = len(content) + 64
        chain.accept(raw)
    return told


def _verdict(chain: "TronChain", id_: str, raw: dict[str, Any], signatures: list[bytes]) -> tuple[str, str]:
    head = chain.blocks[chain.newest]["block_header"]["raw_data"].get("timestamp", 0)
    value = raw["contract"][0]["parameter"]["value"]
    owner = value["owner_address"]
    number = _named(chain, raw["ref_block_bytes"])
    if len(signatures) != 1 or _signer(id_, signatures[0]) != owner:
        return "SIGERROR", "Validate signature error: sig error"
    if number is None or chain.blocks[number]["blockID"][16:32] != raw["ref_block_hash"]:
        return "TAPOS_ERROR", "Tapos failed, different block hash"
    if not head < raw["expiration"] <= head + DAY_MS:
        return "TRANSACTION_EXPIRATION_ERROR", f"Transaction expiration, but headBlockTime is {head}"
    if id_ in chain.txs:
        return "DUP_TRANSACTION_ERROR", "Transaction already exists."
    if chain.accounts.coins.get(owner, 0) < value.get("amount", 0):
        return (
            "CONTRACT_VALIDATE_ERROR",
            "Contract validate error : Validate TransferContract error, balance is not sufficient.",
        )
    return "SUCCESS", ""


def _named(chain: "TronChain", low: str) -> int | None:
    """The newest block whose number ends so."""
    return max((number for number in chain.blocks if f"{number:016x}"[12:] == low), default=None)


def _signer(id_: str, signature: bytes) -> str:
    recovery = signature[64] - 27 if signature[64] >= 27 else signature[64]
    key = PublicKey.from_signature_and_message(signature[:64] + bytes([recovery]), bytes.fromhex(id_), hasher=None)
    return "41" + keccak(key.format(compressed=False)[1:])[-20:].hex()


METHODS: dict[str, Callable[["TronChain", dict[str, Any], int], Any]] = {
    "getaccount": get_account,
    "getchainparameters": get_parameters,
    "triggerconstantcontract": try_call,
    "broadcasthex": broadcast_hex,
}
