"""Reading a range of slots for transfers to watched addresses, from one endpoint."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import structlog

from chains.base import Block, Scan, Transfer, TxStatus
from chains.errors import MalformedError, RefusedError
from chains.fields import listing, mapping, whole
from chains.http import Call, HttpEndpoint
from chains.solana import parse
from chains.solana.instructions import TOKENS
from chains.solana.transfers import Assets, associated
from core.errors import TransientError

log = structlog.stdlib.get_logger(__name__)

FINAL = {"commitment": "finalized"}
VERSION_MAX = 1
"""Of transactions: those without a version, 0 (lookup tables) and 1 (SIMD-0385, on mainnet since September 2026)."""

SKIPPED = frozenset({-32004, -32007, -32009, -32014})
"""Errors for a slot of which the node has no block: not yet, skipped, or lost. Which of these, it can't tell."""
LOST = frozenset({-32001, -32007, -32009})
"""Errors for a block that a node had: cleaned up, or in none of its stores."""
UNSUPPORTED_VERSION = -32015

LOOK_BACK = 64
"""Slots below the final one in which its node must have a block."""
PAGE = 1_000
"""Signatures in one answer, the most that nodes give."""
MINTS_AT_ONCE = 100
TXS_AT_ONCE = 100
"""Transactions that are held at one time: anybody can make one a megabyte long, and many for little."""


def block_call(slot: int) -> Call:
    config = {"transactionDetails": "none", "rewards": False, "maxSupportedTransactionVersion": VERSION_MAX}
    return ("getBlock", [slot, FINAL | config])


def tx_call(id_: str) -> Call:
    """By its bytes: the other encodings are what the node makes of them."""
    return ("getTransaction", [id_, FINAL | {"encoding": "base64", "maxSupportedTransactionVersion": VERSION_MAX}])


def newest_final(endpoint: HttpEndpoint) -> parse.Header:
    """The newest final slot that has a block."""
    slot = whole(endpoint.ask([("getSlot", [FINAL])])[0])
    (answer,) = endpoint.try_all([block_call(slot)])
    if answer is None or isinstance(answer, RefusedError):
        # A node stores blocks a little later than it counts them.
        (slots,) = endpoint.ask([("getBlocks", [max(0, slot - LOOK_BACK), slot, FINAL])])
        slot = max((whole(number) for number in listing(slots)), default=slot)
        (answer,) = endpoint.ask([block_call(slot)])
    return parse.header(slot, answer)


def portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + TXS_AT_ONCE] for start in range(0, len(ids), TXS_AT_ONCE))


def read_txs(endpoint: HttpEndpoint, ids: Sequence[str]) -> dict[str, object]:
    """What the node says of each transaction that is final, None if nothing.

    One of a version that nobody here can read is left out: it must not keep all others from being read.
    """
    calls = [tx_call(id_) for id_ in ids]
    found: dict[str, object] = {}
    for id_, call, answer in zip(ids, calls, endpoint.try_all(calls), strict=True):
        if not isinstance(answer, RefusedError):
            found[id_] = answer
        elif answer.code == UNSUPPORTED_VERSION:
            log.error("a transaction of an unknown version can't be read", chain_tx=id_, node=endpoint.label)
        else:
            (found[id_],) = endpoint.ask([call])  # alone, as its neighbours may have been too long
    return found


def read_headers(endpoint: HttpEndpoint, slots: Sequence[int]) -> dict[int, parse.Header]:
    """The blocks of these slots, each of which has one. Raises RefusedError if the node lacks any."""
    wanted = sorted(set(slots))
    answers = endpoint.ask([block_call(slot) for slot in wanted])
    return {slot: _header(slot, raw) for slot, raw in zip(wanted, answers, strict=True)}


def read_blocks_had(endpoint: HttpEndpoint, slots: Sequence[int]) -> dict[int, Block]:
    """The blocks of these slots, but those that the node no longer has, or without the time that early ones lack.

    Anybody can name a transaction of years ago, and it must not keep all others from being read.
    """
    wanted = sorted(set(slots))
    calls = [block_call(slot) for slot in wanted]
    found: dict[int, Block] = {}
    for slot, call, answer in zip(wanted, calls, endpoint.try_all(calls), strict=True):
        if isinstance(answer, RefusedError) and answer.code in LOST:
            continue
        raw = endpoint.ask([call])[0] if isinstance(answer, RefusedError) else answer  # alone, it may be answered
        if parse.has_time(raw):
            found[slot] = _header(slot, raw).block
    return found


def _header(slot: int, raw: object) -> parse.Header:
    if raw is None:
        raise MalformedError(f"no block in slot {slot}, where there is one")
    return parse.header(slot, raw)


def check_skipped(endpoint: HttpEndpoint, slots: Sequence[int]) -> None:
    """That the chain goes on past each of these slots. A node that only lost a block denies it all the same.

    Raises TransientError if one was not skipped, or the node can't tell.
    """
    answers = endpoint.ask([("getBlocksWithLimit", [slot + 1, 1, FINAL]) for slot in slots])
    later = {slot: whole(number) for slot, raw in zip(slots, answers, strict=True) for number in listing(raw)[:1]}
    if any(number <= slot for slot, number in later.items()):
        raise MalformedError("blocks that were not asked for")
    headers = read_headers(endpoint, list(later.values()))
    for slot in slots:
        if slot not in later or headers[later[slot]].parent_slot >= slot:
            raise TransientError(f"{endpoint.label} does not have the block of slot {slot}")


class Scanner:
    """One scan of one endpoint for some addresses."""

    def __init__(
        self,
        endpoint: HttpEndpoint,
        assets: Assets,
        addresses: Sequence[str],
        *,
        programs: Mapping[str, str],
        known: Mapping[str, parse.Listed],
    ) -> None:
        """`programs`: the token program of each mint. `known`: by account, a signature of it that was seen before."""
        self._endpoint = endpoint
        self._assets = assets
        self._watched = frozenset(addresses)
        self._accounts = {address: [address] for address in addresses}
        for mint in assets.tokens:
            for address in addresses:
                of_mint = [programs[mint]] if mint in programs else sorted(TOKENS)
                self._accounts[address] += [associated(address, mint, program) for program in of_mint]
        self._known = known
        self.newest: dict[str, parse.Listed] = {}
        """By account, the newest signature in or before the range: what a later scan need not look behind."""

    def scan(self, first: int, last: int) -> Scan:
        """Raises TransientError if the node has not, or no longer, all blocks of the range."""
        newest = self._range(first, last)
        rows = self._listed(first, last)
        blocks = {newest.number: newest}
        found: list[Transfer] = []
        for ids in portions(sorted(rows)):
            found += self._moved(ids, rows, blocks)
        holding = {transfer.block_number for transfer in found} | {newest.number}
        return Scan(
            blocks=tuple(blocks[slot] for slot in sorted(holding)),
            transfers=tuple(sorted(found, key=lambda one: (one.block_number, one.chain_tx, one.index))),
        )

    def _moved(
        self, ids: Sequence[str], rows: Mapping[str, parse.Listed], blocks: dict[int, Block]
    ) -> Iterator[Transfer]:
        """To watched addresses. `blocks` are those read so far, and get those of the transactions."""
        answers = read_txs(self._endpoint, ids)
        slots = {rows[id_].slot for id_ in answers} - blocks.keys()
        blocks |= {slot: header.block for slot, header in read_headers(self._endpoint, sorted(slots)).items()}
        for id_, raw in answers.items():
            block = blocks[rows[id_].slot]
            if raw is None or parse.slot_of(raw) != block.number:
                raise TransientError(f"{self._endpoint.label} lists {id_}, and does not tell it alike")
            told = parse.chain_tx(id_, None, raw, block, self._assets)
            if told.status is not TxStatus.SUCCEEDED:
                raise TransientError(f"{self._endpoint.label} lists {id_}, and can't tell what it moved")
            yield from (transfer for transfer in told.transfers if transfer.recipient in self._watched)

    def _range(self, first: int, last: int) -> Block:
        """The newest block at or below `last`, once the node has shown that it has every block of the range.

        A node that started from a snapshot lacks blocks in between and calls their slots skipped. But each block names
        the slot of its parent, and counts the blocks before it, so what is missing shows.
        """
        oldest, head, slots, later = self._endpoint.ask(
            [
                ("getFirstAvailableBlock", []),
                ("getSlot", [FINAL]),
                ("getBlocks", [first, last, FINAL]),
                ("getBlocksWithLimit", [last + 1, 1, FINAL]),
            ]
        )
        slots, later = [whole(slot) for slot in listing(slots)], [whole(slot) for slot in listing(later)[:1]]
        if slots != sorted({slot for slot in slots if first <= slot <= last}) or any(slot <= last for slot in later):
            raise MalformedError("blocks that were not asked for")
        if whole(oldest) > first or whole(head) < last or not (later or slots[-1:] == [last]):
            raise self._lacks(first, last)
        headers = read_headers(self._endpoint, [*slots[:1], *slots[-1:], *later])
        for slot in later:
            parent = headers[slot].parent_slot
            if (slots and parent != slots[-1]) or (not slots and parent >= first):
                raise self._lacks(first, last)
        if not slots:
            parent = headers[later[0]].parent_slot
            return read_headers(self._endpoint, [parent])[parent].block
        begin, end = headers[slots[0]], headers[slots[-1]]
        if begin.height is None or end.height is None:
            raise MalformedError("a block without its height")
        if (begin.parent_slot >= first > 0) or end.height - begin.height != len(slots) - 1:
            raise self._lacks(first, last)
        return end.block

    def _listed(self, first: int, last: int) -> dict[str, parse.Listed]:
        """Transactions of the range that name one of the accounts, and did not fail."""
        found: dict[str, parse.Listed] = {}
        pages = {account: _Pages(first, last, self._known.get(account)) for account in chain(*self._accounts.values())}
        open_ = list(pages)
        while open_:
            answers = self._endpoint.ask([("getSignaturesForAddress", [name, pages[name].asks()]) for name in open_])
            for account, answer in zip(open_, answers, strict=True):
                rows = pages[account].take(parse.listed(answer))
                found |= {row.signature: row for row in rows if not row.failed}
            open_ = [account for account in open_ if not pages[account].done]
        self.newest = {account: page.newest for account, page in pages.items() if page.newest is not None}
        return found

    def _lacks(self, first: int, last: int) -> TransientError:
        return TransientError(f"{self._endpoint.label} does not have every block from slot {first} to {last}")


class _Pages:
    """The signatures of one account from the head back to the range, page by page.

    A page is asked for by a signature it lies before. Nodes have disagreed on the order within a slot, so the next page
    begins with the whole of the slot in which the last one ended.
    """

    def __init__(self, first: int, last: int, known: parse.Listed | None) -> None:
        self._first = first
        self._last = last
        self._until = known.signature if known is not None and known.slot < first else None
        self._before: str | None = None
        self._tip = last
        self._seen: set[str] = set()
        self.newest = known if self._until else None
        self.done = False

    def asks(self) -> dict[str, object]:
        # A machine that is behind would have an empty answer for what it has not seen yet.
        asked: dict[str, object] = FINAL | {"limit": PAGE, "minContextSlot": self._tip}
        if self._before is not None:
            asked["before"] = self._before
        if self._until is not None:  # never needed: one that the node has lost only makes the answer longer
            asked["until"] = self._until
        return asked

    def take(self, rows: Sequence[parse.Listed]) -> list[parse.Listed]:
        """The rows that lie in the range."""
        new = [row for row in rows if row.signature not in self._seen]
        # A short page proves nothing: a gateway may give fewer than it is asked for. The one behind it tells.
        self.done = not rows or rows[-1].slot < self._first or (not new and len(rows) < PAGE)
        if not self.done:
            self._before = next((row for row in reversed(rows) if row.slot > rows[-1].slot), rows[-1]).signature
            self._tip = max(self._tip, rows[0].slot)
        if not self.done and not new:
            raise MalformedError("a list of signatures that never ends")
        self._seen.update(row.signature for row in new)
        for row in new:
            if row.slot <= self._last and (self.newest is None or row.slot > self.newest.slot):
                self.newest = row
        return [row for row in new if self._first <= row.slot <= self._last]


def token_programs(endpoint: HttpEndpoint, mints: Sequence[str]) -> dict[str, str]:
    """The token program that each mint belongs to; those that are not on this chain are left out."""
    config = FINAL | {"encoding": "base64", "dataSlice": {"offset": 0, "length": 0}}
    found: dict[str, str] = {}
    for start in range(0, len(mints), MINTS_AT_ONCE):
        asked = mints[start : start + MINTS_AT_ONCE]
        (answer,) = endpoint.ask([("getMultipleAccounts", [list(asked), config])])
        accounts = listing(mapping(answer).get("value"))
        if len(accounts) != len(asked):
            raise MalformedError(f"asked for {len(asked)} accounts, told of {len(accounts)}")
        for mint, account in zip(asked, accounts, strict=True):
            if account is not None and (owner := mapping(account).get("owner")) in TOKENS:
                found[mint] = owner
    return found
