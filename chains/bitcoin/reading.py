"""One reading of one Bitcoin node, by Bitcoin Core's JSON-RPC (https://developer.bitcoin.org/reference/rpc/).

What a node tells in several answers holds together only if its chain did not change in between. So each reading begins
and ends with the hash of the best block, and fails if that is another one.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from btclib.tx.tx import Tx

from chains.base import Block, ChainTx, Head, Scan, Transfer, TxStatus
from chains.bitcoin import parse
from chains.bitcoin.parse import COINBASE_MATURITY
from chains.errors import MalformedError, RefusedError
from chains.fields import mapping, plain_hash
from chains.http import HttpEndpoint
from core.errors import TransientError

TXS_MAX = 20
"""Transactions in one request: anybody can make one whose answer has megabytes."""

_OUTPOINT = re.compile(r"([0-9a-fA-F]{64}):([0-9]{1,10})")
_OUT_OF_RANGE = -8
NOT_FOUND = -5

_NO_INDEX = re.compile(r"-txindex|being indexed", re.IGNORECASE)
"""Bitcoin Core's words (src/rpc/rawtransaction.cpp) where it looked in the mempool alone: that proves nothing."""
_UNKNOWN = re.compile(r"no such mempool or blockchain transaction|genesis block coinbase", re.IGNORECASE)
"""Its words where it looked everywhere; and for the one transaction that it never gives, whose output is lost."""


@dataclass(frozen=True)
class _Found:
    """A transaction that the node knows."""

    tx: Tx
    stale: bool = False
    """Only in a block that is not of the best chain, and not in the mempool either."""
    block: Block | None = None


class Reading:
    """Raises TransientError if the chain changes under it, RefusedError for what the node won't do."""

    def __init__(self, endpoint: HttpEndpoint, assets: parse.Assets) -> None:
        self._endpoint = endpoint
        self._assets = assets

    # Blocks

    def head(self) -> Head:
        best, number = self._tip()
        return Head(latest=self._headers({number: best})[number], finalized=None)

    def blocks(self, numbers: Sequence[int]) -> dict[int, Block]:
        """Of the best chain. Those above its head are left out."""
        with self._unchanged():
            return self._headers(self._hashes(numbers))

    def scan(self, first: int, last: int, watched: Collection[bytes]) -> Scan:
        """The outputs that pay one of these scripts.

        One block at a time is in memory. Each names its predecessor, so that what comes back is of one fork.
        """
        with self._unchanged() as tip:
            hashes = self._hashes(range(first, last + 1))
            if len(hashes) != last - first + 1:
                raise TransientError(f"{self._endpoint.label} does not have block {last}")
            blocks: list[Block] = []
            found: list[Transfer] = []
            if watched:
                for number, hash_ in hashes.items():
                    block, txs = self._full_block(number, hash_)
                    blocks.append(block)
                    found += self._paid(block, txs, watched, tip=tip)
            else:
                blocks += self._headers(hashes).values()
        if any(child.parent_hash != parent.hash for parent, child in pairwise(blocks)):
            raise TransientError(f"the chain changed under the scan ({self._endpoint.label})")
        return Scan(blocks=tuple(blocks), transfers=tuple(found))

    def _paid(self, block: Block, txs: Sequence[Tx], watched: Collection[bytes], *, tip: int) -> Iterator[Transfer]:
        for parsed in txs:
            if any(output.script_pub_key.script in watched for output in parsed.vout):
                if parsed.is_coinbase and not _mature(block.number, tip):
                    continue
                yield from parse.transfers(parsed.id.hex(), parsed, block, self._assets, watched=watched)

    def _hashes(self, numbers: Iterable[int]) -> dict[int, str]:
        wanted = list(dict.fromkeys(numbers))
        found = {}
        answers = self._endpoint.try_all([("getblockhash", [number]) for number in wanted])
        for number, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, RefusedError):
                if answer.code != _OUT_OF_RANGE:
                    raise answer
                continue
            found[number] = plain_hash(answer)
        return found

    def _headers(self, hashes: dict[int, str]) -> dict[int, Block]:
        raws = self._endpoint.ask([("getblockheader", [hash_, False]) for hash_ in hashes.values()])
        return {
            number: parse.block(self._assets, number, hash_, raw)
            for (number, hash_), raw in zip(hashes.items(), raws, strict=True)
        }

    def _full_block(self, number: int, hash_: str) -> tuple[Block, list[Tx]]:
        return parse.full_block(self._assets, number, hash_, self._endpoint.ask([("getblock", [hash_, 0])])[0])

    def _tip(self) -> tuple[str, int]:
        """Hash and number of the best block."""
        info = mapping(self._endpoint.ask([("getblockchaininfo", [])])[0])
        return plain_hash(info.get("bestblockhash")), parse.number_of(info.get("blocks"))

    @contextmanager
    def _unchanged(self) -> Iterator[int]:
        """The number of the best block, which is still the same at the end."""
        best, number = self._tip()
        yield number
        if self._tip() != (best, number):
            raise TransientError(f"the chain of {self._endpoint.label} changed while it was read")

    # Transactions

    def newest(self) -> int:
        return self._tip()[1]

    def chain_txs(self, ids: Sequence[str]) -> dict[str, ChainTx]:
        with self._unchanged() as tip:
            found = self._found(ids)
        return {id_: self._chain_tx(id_, found.get(id_), tip=tip) for id_ in ids}

    def _chain_tx(self, id_: str, found: _Found | None, *, tip: int) -> ChainTx:
        if found is None:
            return ChainTx(id=id_, status=TxStatus.MISSING)
        status = TxStatus.SUCCEEDED
        if found.stale:
            status = TxStatus.MISSING
        elif found.block is None or (found.tx.is_coinbase and not _mature(found.block.number, tip)):
            status = TxStatus.MEMPOOL
        return parse.chain_tx(id_, found.tx, found.block, self._assets, status=status)

    def _found(self, ids: Sequence[str]) -> dict[str, _Found]:
        """Those that the node knows. What it says is in a block is proven to be."""
        txs: dict[str, Tx] = {}
        told: dict[str, list[str]] = {}
        for start in range(0, len(ids), TXS_MAX):
            some = ids[start : start + TXS_MAX]
            answers = self._endpoint.try_all([("getrawtransaction", [id_, 1]) for id_ in some])
            for id_, answer in zip(some, answers, strict=True):
                if isinstance(answer, RefusedError):
                    self._check_unknown(answer)
                    continue
                raw = mapping(answer)
                txs[id_] = parse.tx(id_, raw.get("hex"))
                if raw.get("blockhash") is not None:
                    told.setdefault(plain_hash(raw["blockhash"]), []).append(id_)
        blocks = self._proven(told)
        where = {id_: blocks[hash_] for hash_, those in told.items() for id_ in those}
        return {
            id_: _Found(tx, stale=id_ in where and where[id_] is None, block=where.get(id_)) for id_, tx in txs.items()
        }

    def _check_unknown(self, refusal: RefusedError) -> None:
        """Raises unless the node has looked for the transaction everywhere."""
        if refusal.code == NOT_FOUND and _NO_INDEX.search(refusal.words):
            raise TransientError(f"{self._endpoint.label} has no index of all transactions: it needs txindex=1")
        if refusal.code != NOT_FOUND or not _UNKNOWN.search(refusal.words):
            raise refusal

    def _proven(self, told: dict[str, list[str]]) -> dict[str, Block | None]:
        """The blocks of these hashes, which hold these transactions; None for one that is not of the best chain."""
        found: dict[str, Block | None] = {}
        headers = self._endpoint.ask([("getblockheader", [hash_, True]) for hash_ in told])
        numbers = {}
        for hash_, header in zip(told, map(mapping, headers), strict=True):
            if header.get("hash") != hash_ or type(header.get("confirmations")) is not int:
                raise MalformedError(f"not the header of {hash_}")
            found[hash_] = None
            if header["confirmations"] > 0:  # -1: on another branch
                numbers[hash_] = parse.number_of(header.get("height"))
        proofs = self._endpoint.ask([("gettxoutproof", [told[hash_], hash_]) for hash_ in numbers])
        for (hash_, number), proof in zip(numbers.items(), proofs, strict=True):
            found[hash_], ids = parse.proven(self._assets, number, hash_, proof)
            if not ids.issuperset(told[hash_]):
                raise MalformedError(f"no proof that {(set(told[hash_]) - ids).pop()} is in block {number}")
        return found

    # Outputs

    def spent(
        self, outpoints: Collection[tuple[str, int]], *, block: int | None, depth_max: int
    ) -> set[tuple[str, int]]:
        """Those that a transaction in a block up to `block` has spent.

        The node knows which outputs are unspent. One that is not among them has been spent, or has never been there:
        as long as the transaction that makes it is in no block. What was spent above `block` is found in the blocks
        there, at most `depth_max` of them.
        """
        wanted = list(dict.fromkeys(outpoints))
        with self._unchanged() as tip:
            outs = self._endpoint.ask([("gettxout", [id_, index, False]) for id_, index in wanted])
            absent = [each for each, out in zip(wanted, outs, strict=True) if out is None]
            if any(not mapping(out).get("scriptPubKey") for out in outs if out is not None):
                raise MalformedError("an unspent output without a script")
            parents = self._found(list(dict.fromkeys(id_ for id_, _ in absent)))
            spent = {
                (id_, index)
                for id_, index in absent
                if (parent := parents.get(id_)) and parent.block is not None and index < len(parent.tx.vout)
            }
            lowest = tip if block is None else max(block, tip - depth_max)
            for number, hash_ in sorted(self._hashes(range(lowest + 1, tip + 1)).items(), reverse=True):
                if not spent:
                    break
                _, txs = self._full_block(number, hash_)
                spent -= {(each.prev_out.tx_id.hex(), each.prev_out.vout) for parsed in txs for each in parsed.vin}
        return spent


def _mature(number: int, tip: int) -> bool:
    return tip - number >= COINBASE_MATURITY


def outpoint(text: str) -> tuple[str, int]:
    """Of `txid:vout`. Raises ValueError for what is no such."""
    match = _OUTPOINT.fullmatch(text)
    if not match or int(match[2]) >= 2**32:
        raise ValueError(f"{text!r} is no output")
    return match[1].lower(), int(match[2])
