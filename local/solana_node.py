"""A Solana chain behind Solana's JSON-RPC: `python -m local.solana_node --port 8899`. Chain: solana_chain.py.

Methods that begin with `dev` act on the chain as no node lets anybody do: devMine, devSkip, devDrop, devSetLamports.
Source of the wire format: solana.com/docs/rpc/http.
"""

import argparse
import base64
import json
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import base58
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from local.http_server import Answer, HttpServer
from local.server import HOST
from local.solana_chain import BLOCKHASH_BLOCKS, FINALITY, SolanaChain, SolanaChainError, StoredBlock, StoredTx

PORT = 8899
STATUSES_MAX = 256
BLOCKS_MAX = 500_000
SIGNATURES_MAX = 1_000

Json = dict[str, Any]


class SolanaNode:
    """A node on the loopback interface, from `start` until `stop`. Blocks come by `devMine`, or by the clock."""

    def __init__(self, port: int = 0, *, finality: int = FINALITY, slot_ms: int | None = None) -> None:
        """`slot_ms`: make a block that often. None: only when told to."""
        self.chain = SolanaChain(finality=finality)
        self.lock = threading.RLock()
        self._http = HttpServer(lambda asked: Answer(200, json.dumps(self.answer(asked.body)).encode()), port=port)
        self._slot_s = None if slot_ms is None else slot_ms / 1_000
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http.port}"

    def start(self) -> None:
        self._http.start()
        if self._slot_s is not None:
            self._clock = threading.Thread(target=self._tick, args=(self._slot_s,), daemon=True)
            self._clock.start()

    def stop(self) -> None:
        self._stopped.set()
        self._http.stop()
        if self._slot_s is not None:
            self._clock.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _tick(self, slot_s: float) -> None:
        while not self._stopped.wait(slot_s):
            with self.lock:
                self.chain.mine()

    def answer(self, content: bytes) -> Any:
        """The answer to one request's body: a call, or a batch of calls."""
        try:
            body = json.loads(content)
        except ValueError:
            return _refused(None, -32700, "Parse error")
        if isinstance(body, list):
            return [self._call(call) for call in body]
        return self._call(body)

    def _call(self, call: Json) -> Json:
        id_ = call.get("id")
        method = METHODS.get(call.get("method", ""))
        if method is None:
            return _refused(id_, -32601, "Method not found")
        try:
            with self.lock:
                result = method(self.chain, *(call.get("params") or ()))
        except SolanaChainError as error:
            return _refused(id_, error.code, str(error), error.data)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            return _refused(id_, -32602, f"Invalid params: {error}")
        return {"jsonrpc": "2.0", "id": id_, "result": result}


def _refused(id_: object, code: int, message: str, data: Json | None = None) -> Json:
    error: Json = {"code": code, "message": message}
    return {"jsonrpc": "2.0", "id": id_, "error": error if data is None else error | {"data": data}}


# Reading


def _seen(chain: SolanaChain, config: Json | None) -> StoredBlock:
    """The newest block at the commitment that was asked for."""
    asked = config or {}
    block = chain.final if asked.get("commitment", "finalized") == "finalized" else chain.head
    if (least := asked.get("minContextSlot")) is not None and block.slot < least:
        raise SolanaChainError(-32016, "Minimum context slot has not been reached", {"contextSlot": block.slot})
    return block


def _in_context(chain: SolanaChain, config: Json | None, value: Any) -> Json:
    return {"context": {"slot": _seen(chain, config).slot, "apiVersion": "3.1.0"}, "value": value}


def _get_latest_blockhash(chain: SolanaChain, config: Json | None = None) -> Json:
    block = _seen(chain, config)
    value = {"blockhash": block.hash, "lastValidBlockHeight": block.height + BLOCKHASH_BLOCKS}
    return _in_context(chain, config, value)


def _get_block(chain: SolanaChain, slot: int, config: Json | None = None) -> Json:
    asked = config or {}
    if slot > _seen(chain, config).slot:
        raise SolanaChainError(-32004, f"Block not available for slot {slot}")
    block = chain.blocks.get(slot)
    if block is None:
        raise SolanaChainError(-32007, f"Slot {slot} was skipped, or missing due to ledger jump to recent snapshot")
    told: Json = {
        "blockhash": block.hash,
        "previousBlockhash": block.parent_hash,
        "parentSlot": block.parent_slot,
        "blockHeight": block.height,
        "blockTime": block.time,
    }
    details = asked.get("transactionDetails", "full")
    if details == "signatures":
        told["signatures"] = block.signatures
    elif details == "full":
        told["transactions"] = [_told(chain.txs[signature], asked) for signature in block.signatures]
    return told


def _get_blocks(chain: SolanaChain, first: int, last: Any = None, config: Json | None = None) -> list[int]:
    if isinstance(last, dict):
        last, config = None, last
    end = min(_seen(chain, config).slot, first + BLOCKS_MAX if last is None else last)
    if end - first > BLOCKS_MAX:
        raise SolanaChainError(-32602, f"Slot range too large; max {BLOCKS_MAX}")
    return [slot for slot in chain.slots if first <= slot <= end]


def _get_blocks_with_limit(chain: SolanaChain, first: int, limit: int, config: Json | None = None) -> list[int]:
    return _get_blocks(chain, first, None, config)[:limit]


def _get_statuses(chain: SolanaChain, signatures: list[str], _config: Json | None = None) -> Json:
    if len(signatures) > STATUSES_MAX:
        raise SolanaChainError(-32602, f"Too many inputs provided; max {STATUSES_MAX}")
    return _in_context(chain, {"commitment": "processed"}, [_status(chain, name) for name in signatures])


def _status(chain: SolanaChain, signature: str) -> Json | None:
    if signature in chain.pending:
        # As if it were in a block that nobody has voted for yet, and that may come to nothing.
        waiting = {"slot": chain.next_slot, "confirmations": 0, "err": None, "status": {"Ok": None}}
        return waiting | {"confirmationStatus": "processed"}
    stored = chain.txs.get(signature)
    if stored is None:
        return None
    final = stored.slot <= chain.final.slot
    return {
        "slot": stored.slot,
        "confirmations": None if final else chain.head.height - chain.blocks[stored.slot].height,
        "err": stored.meta["err"],
        "status": stored.meta["status"],
        "confirmationStatus": "finalized" if final else "confirmed",
    }


def _get_transaction(chain: SolanaChain, signature: str, config: Any = None) -> Json | None:
    asked = {"encoding": config} if isinstance(config, str) else (config or {})
    stored = chain.txs.get(signature)
    if stored is None or stored.slot > _seen(chain, asked).slot:
        return None
    return _told(stored, asked) | {"slot": stored.slot, "blockTime": chain.blocks[stored.slot].time}


def _told(stored: StoredTx, asked: Json) -> Json:
    version = "legacy" if isinstance(stored.tx.message, Message) else int(str(stored.tx.version()))
    most = asked.get("maxSupportedTransactionVersion")
    if version != "legacy" and (most is None or version > most):
        raise SolanaChainError(-32015, f"Transaction version ({version}) is not supported by the requesting client")
    told: Json = {"meta": stored.meta, "transaction": _encoded(stored.tx, asked.get("encoding", "json"))}
    return told | {"version": version} if most is not None else told


def _encoded(tx: VersionedTransaction, encoding: str) -> Any:
    if encoding == "base64":
        return [base64.b64encode(bytes(tx)).decode(), "base64"]
    if encoding != "json":
        raise ValueError(f"the encoding {encoding} is not offered")
    message = tx.message
    header = message.header
    told: Json = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            {
                "programIdIndex": one.program_id_index,
                "accounts": list(one.accounts),
                "data": base58.b58encode(one.data).decode(),
                "stackHeight": None,
            }
            for one in message.instructions
        ],
    }
    if isinstance(message, MessageV0):
        told["addressTableLookups"] = [
            {
                "accountKey": str(lookup.account_key),
                "writableIndexes": list(lookup.writable_indexes),
                "readonlyIndexes": list(lookup.readonly_indexes),
            }
            for lookup in message.address_table_lookups
        ]
    return {"signatures": [str(signature) for signature in tx.signatures], "message": told}


def _get_signatures(chain: SolanaChain, address: str, config: Json | None = None) -> list[Json]:
    """Newest first. `before` and `until` may be any signatures; an unknown `before` finds nothing."""
    asked = config or {}
    newest = _seen(chain, asked).slot
    names = [name for name in reversed(chain.of_address.get(address, [])) if chain.txs[name].slot <= newest]
    if (before := asked.get("before")) is not None:
        names = [name for name in names if before in chain.txs and _order(chain, name) < _order(chain, before)]
    if (until := asked.get("until")) is not None and until in chain.txs:
        names = [name for name in names if _order(chain, name) > _order(chain, until)]
    limit = asked.get("limit", SIGNATURES_MAX)
    if not 1 <= limit <= SIGNATURES_MAX:
        raise SolanaChainError(-32602, f"Invalid limit; max {SIGNATURES_MAX}")
    return [
        {
            "signature": name,
            "slot": chain.txs[name].slot,
            "err": chain.txs[name].meta["err"],
            "memo": None,
            "blockTime": chain.blocks[chain.txs[name].slot].time,
            "confirmationStatus": "finalized" if chain.txs[name].slot <= chain.final.slot else "confirmed",
        }
        for name in names[:limit]
    ]


def _order(chain: SolanaChain, signature: str) -> tuple[int, int]:
    stored = chain.txs[signature]
    return stored.slot, stored.place


def _account(chain: SolanaChain, address: str, asked: Json) -> Json | None:
    account = chain.account(Pubkey.from_string(address))
    if account is None:
        return None
    part = asked.get("dataSlice") or {"offset": 0, "length": len(account.data)}
    data = account.data[part["offset"] : part["offset"] + part["length"]]
    return {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "data": [base64.b64encode(data).decode(), "base64"],
        "executable": account.executable,
        "rentEpoch": account.rent_epoch,
        "space": len(account.data),
    }


def _get_token_balance(chain: SolanaChain, address: str, config: Json | None = None) -> Json:
    account = chain.account(Pubkey.from_string(address))
    if account is None:
        raise SolanaChainError(-32602, "Invalid param: could not find account")
    return _in_context(chain, config, chain.token_amount(account))


# Acting


def _decoded(text: str, asked: Json) -> VersionedTransaction:
    return VersionedTransaction.from_bytes(
        base64.b64decode(text) if asked.get("encoding") == "base64" else base58.b58decode(text)
    )


def _send(chain: SolanaChain, text: str, config: Json | None = None) -> str:
    asked = config or {}
    _seen(chain, {**asked, "commitment": asked.get("preflightCommitment", "finalized")})
    return chain.send(_decoded(text, asked), preflight=not asked.get("skipPreflight"))


def _simulate(chain: SolanaChain, text: str, config: Json | None = None) -> Json:
    asked = config or {}
    tx = _decoded(text, asked)
    if asked.get("sigVerify") and not all(tx.verify_with_results()):
        raise SolanaChainError(-32003, "Transaction signature verification failure")
    return _in_context(chain, config, chain.simulate(tx))


def _prices(chain: SolanaChain, _accounts: list[str] | None = None) -> list[Json]:
    """Nobody bids here."""
    return [{"slot": slot, "prioritizationFee": 0} for slot in chain.slots[-BLOCKHASH_BLOCKS:]]


METHODS: dict[str, Callable[..., Any]] = {
    "getHealth": lambda _: "ok",
    "getVersion": lambda _: {"solana-core": "3.1.0", "feature-set": 0},
    "getGenesisHash": lambda chain: chain.genesis,
    "getSlot": lambda chain, config=None: _seen(chain, config).slot,
    "getBlockHeight": lambda chain, config=None: _seen(chain, config).height,
    "getFirstAvailableBlock": lambda chain: chain.slots[0],
    "getBlockTime": lambda chain, slot: _get_block(chain, slot, {"transactionDetails": "none"})["blockTime"],
    "getLatestBlockhash": _get_latest_blockhash,
    "isBlockhashValid": lambda chain, hash_, config=None: _in_context(chain, config, chain.is_recent(hash_)),
    "getBlock": _get_block,
    "getBlocks": _get_blocks,
    "getBlocksWithLimit": _get_blocks_with_limit,
    "getSignatureStatuses": _get_statuses,
    "getTransaction": _get_transaction,
    "getSignaturesForAddress": _get_signatures,
    "getAccountInfo": lambda chain, name, config=None: _in_context(chain, config, _account(chain, name, config or {})),
    "getMultipleAccounts": lambda chain, names, config=None: _in_context(
        chain, config, [_account(chain, name, config or {}) for name in names]
    ),
    "getBalance": lambda chain, name, config=None: _in_context(
        chain, config, (_account(chain, name, {}) or {"lamports": 0})["lamports"]
    ),
    "getTokenAccountBalance": _get_token_balance,
    "getMinimumBalanceForRentExemption": lambda chain, size, _config=None: chain.rent(size),
    "getRecentPrioritizationFees": _prices,
    "simulateTransaction": _simulate,
    "sendTransaction": _send,
    "requestAirdrop": lambda chain, name, units, _config=None: chain.airdrop(Pubkey.from_string(name), units),
    "devMine": lambda chain, blocks=1: chain.mine(blocks),
    "devSkip": lambda chain, slots=1: chain.skip(slots),
    "devDrop": lambda chain, signature: chain.drop(signature),
    "devSetLamports": lambda chain, name, units: chain.set_lamports(Pubkey.from_string(name), units),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--slot-ms", type=int, default=400, help="how often a block is made; 0: only when told to")
    asked = parser.parse_args()
    with SolanaNode(asked.port, slot_ms=asked.slot_ms or None) as node:
        print(f"{node.url} solana:{node.chain.genesis[:32]}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
