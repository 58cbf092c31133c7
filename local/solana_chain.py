"""A Solana chain of one machine: the real virtual machine (LiteSVM) with slots, blocks and finality around it.

System, SPL Token, Token-2022, associated token, memo and lookup table programs are the ones of mainnet. What is not
real: there is one leader and no vote, so a block is final when as many follow as were agreed on; accounts are read as
they are now, whatever commitment is asked for; the state is in memory and ends with the process.
"""

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import base58
from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata
from solders.transaction_status import TransactionConfirmationStatus, TransactionErrorType, TransactionStatus
from spl.token.constants import MINT_LEN, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID, WRAPPED_SOL_MINT

FAUCET_LAMPORTS = 10**18
BLOCKHASH_BLOCKS = 150
"""A transaction names a recent block, and can't get into one that stands further above it."""
SLOT_HASHES = 64
"""A lookup table is named by a slot that the chain remembers (mainnet: 512 of them)."""
FINALITY = 2
TOKENS = (TOKEN_PROGRAM_ID, TOKEN_2022_PROGRAM_ID)

_LOOKUP_TABLE_HEADER = 56
_TOKEN_ACCOUNT = 165
_TOKEN_ACCOUNT_TYPE = 2
_MINT_DECIMALS = 44

Json = dict[str, Any]


class SolanaChainError(Exception):
    """The chain won't take this transaction. `code` as Solana's JSON-RPC has it."""

    def __init__(self, code: int, message: str, data: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


@dataclass(frozen=True)
class StoredTx:
    tx: VersionedTransaction
    slot: int
    place: int
    """In its block."""
    meta: Json


@dataclass
class StoredBlock:
    slot: int
    height: int
    parent_slot: int
    hash: str
    parent_hash: str
    time: int
    signatures: list[str] = field(default_factory=list)


class SolanaChain:
    """Transactions wait until `mine`. Not thread-safe: the node in front of it has the lock."""

    def __init__(self, *, finality: int = FINALITY) -> None:
        """`finality`: how many blocks must stand on one that is final."""
        # All of these are ours to do; signatures, as `simulate` is asked without.
        self._svm = LiteSVM().with_blockhash_check(False).with_transaction_history(0).with_sigverify(False)
        self._finality = finality
        self.faucet = Keypair()
        self.set_lamports(self.faucet.pubkey(), FAUCET_LAMPORTS)
        # Wrapped SOL: no authority, no supply, nine decimals, initialised. It is there on every cluster.
        native = bytes(_MINT_DECIMALS) + bytes([9, 1]) + bytes(MINT_LEN - _MINT_DECIMALS - 2)
        self._svm.set_account(WRAPPED_SOL_MINT, Account(self.rent(MINT_LEN), native, TOKEN_PROGRAM_ID))
        genesis = _hash(os.urandom(32))
        self.genesis = genesis
        self.blocks = {0: StoredBlock(0, 0, 0, genesis, genesis, int(time.time()))}
        self.slots = [0]
        self.next_slot = 1
        self.pending: dict[str, VersionedTransaction] = {}
        self.txs: dict[str, StoredTx] = {}
        self.of_address: dict[str, list[str]] = defaultdict(list)
        """Signatures by account, oldest first."""

    # Reading

    @property
    def head(self) -> StoredBlock:
        return self.blocks[self.slots[-1]]

    @property
    def final(self) -> StoredBlock:
        return self.blocks[self.slots[max(0, len(self.slots) - 1 - self._finality)]]

    def account(self, address: Pubkey) -> Account | None:
        found = self._svm.get_account(address)
        return found if found is not None and found.lamports else None

    def rent(self, size: int) -> int:
        return self._svm.minimum_balance_for_rent_exemption(size)

    def is_recent(self, blockhash: str) -> bool:
        recent = self.slots[-BLOCKHASH_BLOCKS:]
        return any(self.blocks[slot].hash == blockhash for slot in reversed(recent))

    # Acting

    def set_lamports(self, address: Pubkey, lamports: int) -> None:
        """Give an account this balance, without a transaction."""
        held = self._svm.get_account(address)
        data, owner = (held.data, held.owner) if held is not None else (b"", SYSTEM)
        self._svm.set_account(address, Account(lamports, data, owner))

    def airdrop(self, address: Pubkey, lamports: int) -> str:
        instruction = transfer(TransferParams(from_pubkey=self.faucet.pubkey(), to_pubkey=address, lamports=lamports))
        # Otherwise two alike would be the same transaction.
        unique = transfer(
            TransferParams(from_pubkey=self.faucet.pubkey(), to_pubkey=self.faucet.pubkey(), lamports=len(self.txs) + 1)
        )
        instructions = [instruction, unique] if self._is_known(instruction) else [instruction]
        return self.send(self._from_faucet(instructions), preflight=False)

    def _from_faucet(self, instructions: Sequence[Any]) -> VersionedTransaction:
        blockhash = Hash.from_string(self.head.hash)
        message = MessageV0.try_compile(self.faucet.pubkey(), list(instructions), [], blockhash)
        return VersionedTransaction(message, [self.faucet])

    def _is_known(self, instruction: Any) -> bool:
        signature = str(self._from_faucet([instruction]).signatures[0])
        return signature in self.pending or signature in self.txs

    def send(self, tx: VersionedTransaction, *, preflight: bool = True) -> str:
        """Take a signed transaction into the next block. Raises SolanaChainError."""
        signature = str(tx.signatures[0])
        if not all(tx.verify_with_results()):
            raise SolanaChainError(-32003, "Transaction signature verification failure")
        if signature in self.txs and not preflight:
            return signature
        if not self.is_recent(str(tx.message.recent_blockhash)):
            raise _preflight("BlockhashNotFound", "Blockhash not found", [])
        if signature in self.txs:
            raise _preflight("AlreadyProcessed", "This transaction has already been processed", [])
        if preflight:
            outcome = self._svm.simulate_transaction(tx)
            if isinstance(outcome, FailedTransactionMetadata):
                raise _preflight(_error(outcome.err()), "Error processing transaction", outcome.meta().logs())
        self.pending[signature] = tx
        return signature

    def simulate(self, tx: VersionedTransaction) -> Json:
        """What would come of it now, signed or not."""
        if not self.is_recent(str(tx.message.recent_blockhash)):
            return {"err": "BlockhashNotFound", "logs": [], "unitsConsumed": 0, "returnData": None, "accounts": None}
        outcome = self._svm.simulate_transaction(tx)
        done: TransactionMetadata = outcome.meta()
        return {
            "err": _error(outcome.err()) if isinstance(outcome, FailedTransactionMetadata) else None,
            "logs": done.logs(),
            "unitsConsumed": done.compute_units_consumed(),
            "returnData": None,
            "accounts": None,
        }

    def drop(self, signature: str) -> None:
        """Forget a transaction that waits."""
        self.pending.pop(signature, None)

    def skip(self, slots: int = 1) -> None:
        """Let slots pass in which no leader makes a block."""
        self.next_slot += slots

    def mine(self, blocks: int = 1) -> None:
        """The first of the blocks takes what waits."""
        for _ in range(blocks):
            parent = self.head
            block = StoredBlock(
                slot=self.next_slot,
                height=parent.height + 1,
                parent_slot=parent.slot,
                hash="",
                parent_hash=parent.hash,
                time=max(parent.time, int(time.time())),
            )
            self.next_slot += 1
            self._set_clock(block)
            for signature, tx in self.pending.items():
                # A leader leaves out what can't pay its fee or has waited too long.
                if self.is_recent(str(tx.message.recent_blockhash)) and self._run(tx, block):
                    block.signatures.append(signature)
            self.pending.clear()
            block.hash = _hash(f"{parent.hash}/{block.slot}/{block.signatures}".encode())
            self.blocks[block.slot] = block
            self.slots.append(block.slot)

    def _set_clock(self, block: StoredBlock) -> None:
        clock = self._svm.get_clock()
        clock.slot, clock.unix_timestamp = block.slot, block.time
        self._svm.set_clock(clock)
        recent = [self.blocks[slot] for slot in reversed(self.slots[-SLOT_HASHES:])]
        self._svm.set_slot_hashes([(one.slot, Hash.from_string(one.hash)) for one in recent])

    # Running

    def _run(self, tx: VersionedTransaction, block: StoredBlock) -> bool:
        """Whether it gets into the block, failed or not."""
        loaded = self._loaded(tx)
        keys = [*tx.message.account_keys, *loaded["writable"], *loaded["readonly"]]
        lamports, tokens = self._lamports(keys), self._tokens(keys)
        outcome = self._svm.send_transaction(tx)
        done: TransactionMetadata = outcome.meta() if isinstance(outcome, FailedTransactionMetadata) else outcome
        err = _error(outcome.err()) if isinstance(outcome, FailedTransactionMetadata) else None
        after = self._lamports(keys)
        fee = sum(lamports) - sum(after)
        if err is not None and not fee:
            return False
        meta = {
            "err": err,
            "status": {"Ok": None} if err is None else {"Err": err},
            "fee": fee,
            "preBalances": lamports,
            "postBalances": after,
            "preTokenBalances": tokens,
            "postTokenBalances": self._tokens(keys),
            "innerInstructions": _inner(done),
            "logMessages": done.logs(),
            "rewards": [],
            "loadedAddresses": {kind: [str(key) for key in names] for kind, names in loaded.items()},
            "computeUnitsConsumed": done.compute_units_consumed(),
        }
        names = tuple(map(str, keys))
        signature = str(tx.signatures[0])
        self.txs[signature] = StoredTx(tx=tx, slot=block.slot, place=len(block.signatures), meta=meta)
        for name in dict.fromkeys(names):
            self.of_address[name].append(signature)
        return True

    def _loaded(self, tx: VersionedTransaction) -> dict[str, list[Pubkey]]:
        """The accounts that the message takes from lookup tables."""
        loaded: dict[str, list[Pubkey]] = {"writable": [], "readonly": []}
        for lookup in tx.message.address_table_lookups if isinstance(tx.message, MessageV0) else ():
            table = self.account(lookup.account_key)
            held = table.data[_LOOKUP_TABLE_HEADER:] if table is not None else b""
            for kind, places in (("writable", lookup.writable_indexes), ("readonly", lookup.readonly_indexes)):
                loaded[kind] += [
                    Pubkey(held[place * 32 : place * 32 + 32]) for place in places if len(held) > place * 32
                ]
        return loaded

    def _lamports(self, keys: Sequence[Pubkey]) -> list[int]:
        return [self._svm.get_balance(key) or 0 for key in keys]

    def _tokens(self, keys: Sequence[Pubkey]) -> list[Json]:
        balances = []
        for position, key in enumerate(keys):
            account = self.account(key)
            if account is None or not is_token_account(account):
                continue
            balances.append(
                {
                    "accountIndex": position,
                    "mint": str(Pubkey(account.data[:32])),
                    "owner": str(Pubkey(account.data[32:64])),
                    "programId": str(account.owner),
                    "uiTokenAmount": self.token_amount(account),
                }
            )
        return balances

    def token_amount(self, account: Account) -> Json:
        """As nodes tell a token account's balance."""
        mint = self.account(Pubkey(account.data[:32]))
        units = int.from_bytes(account.data[64:72], "little")
        decimals = mint.data[_MINT_DECIMALS] if mint is not None else 0
        whole, part = divmod(units, 10**decimals)
        text = f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
        return {"amount": str(units), "decimals": decimals, "uiAmount": float(text) or None, "uiAmountString": text}


def is_token_account(account: Account) -> bool:
    """By a token program, of the size or the type of one (a Token-2022 mint may be as long), and initialised."""
    data = account.data
    if account.owner not in TOKENS or len(data) < _TOKEN_ACCOUNT or not data[108]:
        return False
    return len(data) == _TOKEN_ACCOUNT or data[_TOKEN_ACCOUNT] == _TOKEN_ACCOUNT_TYPE


def _inner(done: TransactionMetadata) -> list[Json]:
    return [
        {
            "index": index,
            "instructions": [
                {
                    "programIdIndex": inner.instruction().program_id_index,
                    "accounts": list(inner.instruction().accounts),
                    "data": base58.b58encode(inner.instruction().data).decode(),
                    "stackHeight": inner.stack_height(),
                }
                for inner in group
            ],
        }
        for index, group in enumerate(done.inner_instructions())
        if group
    ]


def _error(error: TransactionErrorType) -> Any:
    """As nodes tell it. The error's own JSON lacks its name, a status's has it."""
    status = TransactionStatus(
        slot=0, confirmations=None, err=error, confirmation_status=TransactionConfirmationStatus.Finalized
    )
    return json.loads(status.to_json())["err"]


def _preflight(err: Any, message: str, logs: list[str]) -> SolanaChainError:
    data = {"accounts": None, "err": err, "logs": logs, "unitsConsumed": 0, "returnData": None}
    return SolanaChainError(-32002, f"Transaction simulation failed: {message}", data)


def _hash(seed: bytes) -> str:
    return str(Hash(hashlib.sha256(seed).digest()))
