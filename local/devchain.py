"""What tests and the demo do on the development chain (anvil): pay, deploy, mine, reorganise, drop, replace.

Any address can send: the node signs for its own accounts and lets the others through unsigned. Hashes are lower
case, addresses EIP-55, units wei or the token's.
"""

import itertools
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import httpx
from eth_abi.abi import decode, encode
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import to_checksum_address

from local import contracts

GAS = 2_000_000
"""Given with each transaction: an estimate would refuse those that are meant to revert."""

GWEI = 10**9
MINED_TIMEOUT_S = 10.0


class DevChainError(Exception):
    """The node refused, or didn't do it in time."""


class DevChain:
    """A running anvil. Safe to make many of for one node; not thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(timeout=30, trust_env=False)  # no proxy: the node is on this machine
        self._ids = itertools.count(1)
        self.chain = f"eip155:{int(self.rpc('eth_chainId'), 16)}"
        self.accounts: list[str] = [to_checksum_address(account) for account in self.rpc("eth_accounts")]
        """Rich accounts. The first one deploys, pays and owns the tokens unless another is named."""
        self._senders = set(self.accounts)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rpc(self, method: str, *params: Any) -> Any:
        """Any method of the node. Raises DevChainError with the node's words."""
        call = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        reply = self._http.post(self.url, json=call).raise_for_status().json()
        if "error" in reply:
            raise DevChainError(f"{method}: {reply['error'].get('message')}")
        return reply["result"]

    # Accounts

    def new_account(self, *, units: int = 0) -> str:
        """A fresh address, with this much of the chain's coin."""
        address: str = to_checksum_address("0x" + secrets.token_hex(20))
        if units:
            self.fund(address, units)
        return address

    def fund(self, address: str, units: int) -> None:
        """Set the balance, without a transaction."""
        self.rpc("anvil_setBalance", address, hex(units))

    def balance(self, address: str, *, token: str | None = None) -> int:
        if token is None:
            return int(self.rpc("eth_getBalance", address, "latest"), 16)
        balance: int = self.read(token, "balanceOf(address)", address, returns="uint256")
        return balance

    def nonce(self, address: str) -> int:
        return int(self.rpc("eth_getTransactionCount", address, "latest"), 16)

    # Transactions. While automine is on they are in a block when the call returns; otherwise they wait for `mine`.

    def send(
        self,
        to: str | None,
        units: int = 0,
        *,
        sender: str | None = None,
        data: str = "0x",
        nonce: int | None = None,
        gas_price: int = 10 * GWEI,
    ) -> str:
        """Send the chain's own coin, or call a contract with raw data. Returns the hash; also if it reverts."""
        sender = sender or self.accounts[0]
        if sender not in self._senders:
            # One by one: once the node lets everybody through it no longer signs for its own accounts either.
            self.rpc("anvil_impersonateAccount", sender)
            self._senders.add(sender)
        call = {
            "from": sender,
            "value": hex(units),
            "data": data,
            "gas": hex(GAS),
            "gasPrice": hex(gas_price),
        }
        if to is not None:
            call["to"] = to
        if nonce is not None:
            call["nonce"] = hex(nonce)
        chain_tx = str(self.rpc("eth_sendTransaction", call)).lower()
        if self.automine:
            self.wait_mined(chain_tx)
        return chain_tx

    def deploy(self, name: str, *args: Any, sender: str | None = None) -> str:
        """Deploy one of local/contracts, mined at once. Returns its address."""
        artifact = contracts.load(name)
        inputs: list[dict[str, str]] = next(
            (entry["inputs"] for entry in artifact.abi if entry["type"] == "constructor"), []
        )
        encoded = encode([entry["type"] for entry in inputs], args).hex()
        chain_tx = self.send(None, sender=sender, data=artifact.bytecode + encoded)
        if not self.automine:
            self.mine()
        receipt = self.receipt(chain_tx)
        if receipt is None or receipt["status"] != "0x1":
            raise DevChainError(f"{name} could not be deployed")
        address: str = to_checksum_address(receipt["contractAddress"])
        return address

    def transact(self, contract: str, signature: str, *args: Any, sender: str | None = None, units: int = 0) -> str:
        """Call the function with this signature, such as `approve(address,uint256)`. Returns the hash."""
        return self.send(contract, units, sender=sender, data=_call_data(signature, args))

    def read(self, contract: str, signature: str, *args: Any, returns: str) -> Any:
        raw = self.rpc("eth_call", {"to": contract, "data": _call_data(signature, args)}, "latest")
        return decode([returns], bytes.fromhex(raw.removeprefix("0x")))[0]

    def send_token(self, token: str, to: str, units: int, *, sender: str | None = None) -> str:
        return self.transact(token, "transfer(address,uint256)", to, units, sender=sender)

    def replace(self, chain_tx: str, *, to: str | None = None, units: int | None = None) -> str:
        """Outbid a waiting transaction by one with its nonce and three times its fee; by default nobody is paid."""
        old = self.rpc("eth_getTransactionByHash", chain_tx)
        if old is None or old["blockHash"] is not None:
            raise DevChainError(f"{chain_tx} is not waiting")
        return self.send(
            to or old["from"],
            units or 0,
            sender=to_checksum_address(old["from"]),
            nonce=int(old["nonce"], 16),
            gas_price=3 * int(old["gasPrice"], 16),
        )

    def drop(self, chain_tx: str) -> None:
        """Make the node forget a waiting transaction."""
        self.rpc("anvil_dropTransaction", chain_tx)

    def receipt(self, chain_tx: str) -> dict[str, Any] | None:
        receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", chain_tx)
        return receipt

    def wait_mined(self, chain_tx: str) -> None:
        deadline = time.monotonic() + MINED_TIMEOUT_S
        while not self._mined(chain_tx):
            if time.monotonic() > deadline:
                raise DevChainError(f"{chain_tx} was not mined within {MINED_TIMEOUT_S:.0f} s")
            time.sleep(0.005)

    def _mined(self, chain_tx: str) -> bool:
        """Whether every view of the node has it: under load the receipt can be there an instant before the rest."""
        receipt = self.receipt(chain_tx)
        if receipt is None:
            return False
        seen = self.rpc("eth_getTransactionByHash", chain_tx)
        return bool(seen and seen["blockHash"]) and self.height >= int(receipt["blockNumber"], 16)

    # Blocks

    @property
    def height(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    @property
    def automine(self) -> bool:
        return bool(self.rpc("anvil_getAutomine"))

    @contextmanager
    def no_mining(self) -> Iterator[None]:
        """Within it transactions wait in the mempool until `mine`."""
        before = self.automine
        self.rpc("evm_setAutomine", False)
        try:
            yield
        finally:
            self.rpc("evm_setAutomine", before)

    def mine(self, blocks: int = 1) -> int:
        """Returns the new height. The first of the blocks takes what waits."""
        self.rpc("anvil_mine", hex(blocks))
        return self.height

    def reorg(self, depth: int, *, keep: Sequence[tuple[str, int]] = ()) -> None:
        """Replace the newest `depth` blocks by others. Their transactions vanish, except those to `keep`.

        `keep` names a transaction of one of `accounts` and its block in the new fork, counted from 0.
        """
        raws = [[self.rpc("eth_getRawTransactionByHash", chain_tx), block] for chain_tx, block in keep]
        self.rpc("anvil_reorg", depth, raws)

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Back to the snapshot, which is used up."""
        if not self.rpc("evm_revert", snapshot):
            raise DevChainError("there is no such snapshot")


def _call_data(signature: str, args: Sequence[Any]) -> str:
    inner = signature[signature.index("(") + 1 : -1]
    types = inner.split(",") if inner else []
    return "0x" + (function_signature_to_4byte_selector(signature) + encode(types, args)).hex()
