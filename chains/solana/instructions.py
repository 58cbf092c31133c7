"""What a transaction did, step by step: its instructions, and those that their programs invoked in turn."""

from collections.abc import Sequence
from dataclasses import dataclass

from solders.message import MessageV0
from solders.transaction import VersionedTransaction
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.token.constants import ASSOCIATED_TOKEN_PROGRAM_ID, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

from chains.errors import MalformedError
from chains.fields import Json, listing, mapping, whole
from chains.solana.fields import address, unspelled

SYSTEM = "11111111111111111111111111111111"
TOKEN = str(TOKEN_PROGRAM_ID)
TOKEN_2022 = str(TOKEN_2022_PROGRAM_ID)
TOKENS = frozenset({TOKEN, TOKEN_2022})
ASSOCIATED = ASSOCIATED_TOKEN_PROGRAM_ID
MEMOS = frozenset({str(MEMO_PROGRAM_ID), "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"})

BATCH = 255
"""p-token (SIMD-0266): several instructions of the token program in one, which leave no inner instructions."""

_OUTER = 28
_INNER = 12
_PARTS_MAX = (1 << _INNER) - 2
_CHARS_MAX = 6_000
"""Of an inner instruction's base58. Longer than any transfer and any batch, short enough to be decoded at no cost."""


@dataclass(frozen=True)
class Key:
    """One of the accounts that a transaction names."""

    address: str
    signer: bool
    writable: bool


@dataclass(frozen=True)
class Step:
    """One instruction that ran."""

    index: int
    """outer << 28 | (inner + 1) << 12 | (in a batch + 1): where it stands, 0 for a part that does not apply."""
    program: str
    accounts: tuple[int, ...]
    """Positions among the transaction's keys."""
    data: bytes


def keys_of(tx: VersionedTransaction, meta: Json) -> list[Key]:
    """All accounts in the order in which instructions count them: the message's own, then those from lookup tables."""
    header = tx.message.header
    signers = header.num_required_signatures
    own = [str(key) for key in tx.message.account_keys]
    read_only = {
        *range(signers - header.num_readonly_signed_accounts, signers),
        *range(len(own) - header.num_readonly_unsigned_accounts, len(own)),
    }
    keys = [Key(address=name, signer=at < signers, writable=at not in read_only) for at, name in enumerate(own)]
    lookups = tx.message.address_table_lookups if isinstance(tx.message, MessageV0) else []
    loaded = mapping(meta.get("loadedAddresses") or {})
    for kind, count in (
        ("writable", sum(len(lookup.writable_indexes) for lookup in lookups)),
        ("readonly", sum(len(lookup.readonly_indexes) for lookup in lookups)),
    ):
        names = listing(loaded.get(kind) or [])
        if len(names) != count:
            raise MalformedError(f"{count} {kind} accounts come from lookup tables, and {len(names)} are told")
        keys += [Key(address=address(name), signer=False, writable=kind == "writable") for name in names]
    return keys


def steps_of(tx: VersionedTransaction, inner: object, keys: Sequence[Key]) -> list[Step]:
    """In the order in which they ran. `inner` is the innerInstructions of the transaction's meta."""
    outer = tx.message.instructions
    invoked: dict[int, list[Json]] = {}
    for group in map(mapping, listing(inner)):
        at = whole(group.get("index"))
        if at >= len(outer) or at in invoked:
            raise MalformedError(f"inner instructions of instruction {at}, which is not there or was there before")
        invoked[at] = [mapping(raw) for raw in listing(group.get("instructions"))]
    steps: list[Step] = []
    for at, own in enumerate(outer):
        steps += _unpacked(at << _OUTER, own.program_id_index, list(own.accounts), own.data, keys)
        for nth, raw in enumerate(invoked.get(at, ())):
            accounts = [whole(position) for position in listing(raw.get("accounts"))]
            index = (at << _OUTER) + ((nth + 1) << _INNER)
            steps += _unpacked(index, whole(raw.get("programIdIndex")), accounts, _data(raw.get("data")), keys)
    return steps


def memo_of(step: Step) -> str | None:
    if step.program not in MEMOS:
        return None
    try:
        return step.data.decode()
    except UnicodeDecodeError:  # the program refuses such
        return None


def _unpacked(index: int, program: int, accounts: Sequence[int], data: bytes, keys: Sequence[Key]) -> list[Step]:
    """The instruction; or the ones it is a batch of."""
    if max((program, *accounts)) >= len(keys):
        raise MalformedError("an instruction names an account that its transaction does not have")
    step = Step(index=index, program=keys[program].address, accounts=tuple(accounts), data=data)
    if step.program not in TOKENS or data[:1] != bytes([BATCH]):
        return [step]
    return _batched(step)


def _batched(batch: Step) -> list[Step]:
    """Each part: how many accounts, how long its data (a byte each), its data; the accounts follow one another."""
    parts: list[Step] = []
    at, taken = 1, 0
    while at + 2 <= len(batch.data) and len(parts) < _PARTS_MAX:
        count, length = batch.data[at], batch.data[at + 1]
        start, at = at + 2, at + 2 + length
        accounts = batch.accounts[taken : taken + count]
        taken += count
        if at > len(batch.data) or len(accounts) < count:
            break  # the program would have refused it
        index = batch.index + len(parts) + 1
        parts.append(Step(index=index, program=batch.program, accounts=accounts, data=batch.data[start:at]))
    return parts


def _data(value: object) -> bytes:
    if not isinstance(value, str):
        raise MalformedError(f"{value!r:.80} is not an instruction's data")
    if len(value) > _CHARS_MAX:
        return b""
    return unspelled(value)
