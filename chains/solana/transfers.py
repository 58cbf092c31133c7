"""The value that one transaction moved. Pure.

Balances say what arrived: an account's after the transaction less what it was before. Instructions say of how many
payments it is made, who paid each and what tags they carry. So a fee that a token takes, money that is paid out again
in the same transaction, or a program that moves money in a way nobody here has heard of, can't make anything be
counted that is not there, nor be missed if it is.

Where the instructions to one account
- add up to what arrived: each is a transfer, under its own index;
- add up to less (a closed account's lamports, freshly minted tokens): so they are, and the rest is one transfer more,
  with no sender, under the index REST | the account's position;
- add up to more (a token that takes a fee; an account that paid in the same transaction): what arrived, if anything, is
  one transfer, under the first one's index.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from chains.base import Block, Transfer
from chains.errors import MalformedError
from chains.fields import Json, listing, mapping, whole
from chains.solana.fields import address, u64
from chains.solana.formats import canonical_tag
from chains.solana.instructions import ASSOCIATED, SYSTEM, TOKENS, Key, Step, keys_of, memo_of, steps_of

REST = 1 << 48

_SYSTEM_TRANSFER = 2
_SYSTEM_TRANSFER_WITH_SEED = 11
_TOKEN_TRANSFER = 3
_TOKEN_TRANSFER_CHECKED = 12
_TOKEN_FEE_EXTENSION = 26
_FEE_TRANSFER_CHECKED = 1
_AMOUNT = re.compile(r"[0-9]{1,20}")


class Unsettled(Exception):  # noqa: N818  # no error: old transactions were kept with less
    """The node has not kept what it takes to tell what moved."""


@dataclass(frozen=True)
class Assets:
    """The assets of one chain."""

    chain: str
    native: str | None
    tokens: Mapping[str, str]
    """Mint -> CAIP-19 id."""


@dataclass(frozen=True)
class _Holding:
    """A token account."""

    mint: str
    owner: str | None
    program: str | None
    units: int


@dataclass(frozen=True)
class _Payment:
    """What one instruction says it moves, accounts by their positions."""

    step: Step
    source: int
    target: int
    units: int
    authority: int
    extra: tuple[int, ...]
    """Further accounts that the instruction was given."""
    is_token: bool


@dataclass(frozen=True)
class _Part:
    """What of a payment arrived."""

    index: int
    units: int
    sender: str | None
    tags: tuple[str, ...]


def transfers(id_: str, tx: VersionedTransaction, meta: Json, block: Block, assets: Assets) -> tuple[Transfer, ...]:
    """Of a transaction that succeeded. Raises Unsettled, MalformedError."""
    inner, before, after = (meta.get(name) for name in ("innerInstructions", "preTokenBalances", "postTokenBalances"))
    if inner is None or before is None or after is None:
        raise Unsettled
    keys = keys_of(tx, meta)
    seen = _Seen(
        keys=keys,
        steps=steps_of(tx, inner, keys),
        before=_holdings(before, keys),
        after=_holdings(after, keys),
        lamports=_changes(meta, keys),
    )
    found = [
        Transfer(
            chain=assets.chain,
            chain_tx=id_,
            index=part.index,
            asset=assets.native if mint is None else assets.tokens.get(mint),
            contract=mint,
            sender=part.sender,
            recipient=recipient,
            units=part.units,
            block_number=block.number,
            block_hash=block.hash,
            block_time=block.time,
            tags=part.tags,
        )
        for mint, recipient, part in seen.arrivals()
    ]
    return tuple(sorted(found, key=lambda transfer: transfer.index))


@lru_cache(maxsize=65_536)
def associated(owner: str, mint: str, program: str) -> str:
    """The owner's associated token account of this mint, by the token program of the mint."""
    seeds = [bytes(Pubkey.from_string(name)) for name in (owner, program, mint)]
    return str(Pubkey.find_program_address(seeds, ASSOCIATED)[0])


@dataclass(frozen=True)
class _Seen:
    keys: Sequence[Key]
    steps: Sequence[Step]
    before: Mapping[int, _Holding]
    after: Mapping[int, _Holding]
    lamports: Sequence[int]

    def arrivals(self) -> Iterator[tuple[str | None, str, _Part]]:
        """Mint or None, recipient, and what arrived."""
        coins: dict[int, list[_Payment]] = defaultdict(list)
        tokens: dict[int, list[_Payment]] = defaultdict(list)
        for step in self.steps:
            if (payment := _payment(step)) is not None:
                (tokens if payment.is_token else coins)[payment.target].append(payment)
        for recipient, part in self._coins(coins):
            yield None, recipient, part
        yield from self._tokens(tokens)

    def _coins(self, payments: Mapping[int, Sequence[_Payment]]) -> Iterator[tuple[str, _Part]]:
        for position, key in enumerate(self.keys):
            # Lamports of a token account are its rent, or wrapped SOL, which is a token.
            if position in self.before or position in self.after:
                continue
            for part in self._parts(position, payments.get(position, ()), self.lamports[position]):
                # Without an instruction: programs' own accounts come and go all the time, and are nobody's wallet.
                if part.index < REST or Pubkey.from_string(key.address).is_on_curve():
                    yield key.address, part

    def _tokens(self, payments: Mapping[int, Sequence[_Payment]]) -> Iterator[tuple[str, str, _Part]]:
        for position, holding in self.after.items():
            owner, program = holding.owner, holding.program
            if owner is None or program not in TOKENS:
                continue
            if self.keys[position].address != associated(owner, holding.mint, program):
                continue  # an account that no scan of the owner's could find
            earlier = self.before.get(position)
            change = holding.units - (earlier.units if earlier is not None else 0)
            for part in self._parts(position, payments.get(position, ()), change):
                yield holding.mint, owner, part

    def _parts(self, position: int, payments: Sequence[_Payment], arrived: int) -> list[_Part]:
        """What arrived at one account, by payments: see the module."""
        parts = [
            _Part(payment.step.index, payment.units, self._sender(payment), self._tags(payments, nth))
            for nth, payment in enumerate(payments)
        ]
        if not parts and arrived <= 0:
            return []
        told = sum(part.units for part in parts)
        if told > arrived:
            tags = tuple(dict.fromkeys(tag for part in parts for tag in part.tags))
            return [_Part(parts[0].index, max(arrived, 0), parts[0].sender, tags)]
        if told < arrived:
            tags = () if parts else self._memos(-1, None)
            parts.append(_Part(REST | position, arrived - told, None, tags))
        return parts

    def _sender(self, payment: _Payment) -> str:
        """The wallet it came from: a token account's owner, not whom the owner let spend."""
        if payment.is_token:
            holding = self.before.get(payment.source) or self.after.get(payment.source)
            if holding is not None and holding.owner is not None:
                return holding.owner
        return self.keys[payment.authority].address

    def _tags(self, payments: Sequence[_Payment], nth: int) -> tuple[str, ...]:
        """Memos since the payment before to the same account, and behind the last one; then reference keys."""
        since = payments[nth - 1].step.index if nth else -1
        until = payments[nth].step.index if nth + 1 < len(payments) else None
        references = (self.keys[position] for position in payments[nth].extra)
        named = (key.address for key in references if not key.signer and not key.writable)
        return tuple(dict.fromkeys([*self._memos(since, until), *named]))

    def _memos(self, since: int, until: int | None) -> tuple[str, ...]:
        texts = (memo_of(step) for step in self.steps if step.index > since and (until is None or step.index < until))
        tags = (canonical_tag(text) for text in texts if text is not None)
        return tuple(tag for tag in tags if tag is not None)


def _payment(step: Step) -> _Payment | None:
    """The transfer that an instruction of the system program or of a token program is, if it is one."""
    data, accounts = step.data, step.accounts
    if step.program == SYSTEM:
        kind, amount = int.from_bytes(data[:4], "little"), data[4:12]
        if kind == _SYSTEM_TRANSFER:
            roles = (0, 1, 0, 2)
        elif kind == _SYSTEM_TRANSFER_WITH_SEED:
            roles = (0, 2, 0, 3)
        else:
            return None
    elif step.program in TOKENS:
        amount = data[1:9]
        if data[:1] == bytes([_TOKEN_TRANSFER]):
            roles = (0, 1, 2, 3)
        elif data[:1] == bytes([_TOKEN_TRANSFER_CHECKED]):
            roles = (0, 2, 3, 4)
        elif data[:2] == bytes([_TOKEN_FEE_EXTENSION, _FEE_TRANSFER_CHECKED]):
            roles, amount = (0, 2, 3, 4), data[2:10]
        else:
            return None
    else:
        return None
    source, target, authority, rest = roles
    if len(amount) < 8 or len(accounts) < max(target, authority) + 1:  # noqa: PLR2004  # u64
        return None  # it would have failed
    # TransferCheckedWithFee names the fee after the decimals: it is withheld, and does not arrive.
    fee = int.from_bytes(data[11:19], "little") if data[:1] == bytes([_TOKEN_FEE_EXTENSION]) else 0
    return _Payment(
        step=step,
        source=accounts[source],
        target=accounts[target],
        units=max(int.from_bytes(amount, "little") - fee, 0),
        authority=accounts[authority],
        extra=accounts[rest:],
        is_token=step.program != SYSTEM,
    )


def _holdings(value: object, keys: Sequence[Key]) -> dict[int, _Holding]:
    """Token balances, by the position of the account."""
    found: dict[int, _Holding] = {}
    for raw in map(mapping, listing(value)):
        position = whole(raw.get("accountIndex"))
        amount = mapping(raw.get("uiTokenAmount")).get("amount")
        if position >= len(keys) or position in found:
            raise MalformedError(f"the balance of account {position}, which is not there or was there before")
        if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
            raise MalformedError(f"{amount!r:.80} is not an amount")
        owner, program = raw.get("owner"), raw.get("programId")
        found[position] = _Holding(
            mint=address(raw.get("mint")),
            owner=address(owner) if owner else None,
            program=address(program) if program else None,
            units=u64(int(amount)),
        )
    return found


def _changes(meta: Json, keys: Sequence[Key]) -> list[int]:
    """Lamports that each account has more, or less."""
    before, after = (listing(meta.get(name)) for name in ("preBalances", "postBalances"))
    if not len(before) == len(after) == len(keys):
        raise MalformedError(f"{len(before)} and {len(after)} balances of {len(keys)} accounts")
    return [u64(now) - u64(then) for then, now in zip(before, after, strict=True)]
