"""Ranges of slots: complete or refused, however many signatures an address has and whatever a node lacks."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

from chains.base import Scan, TxStatus
from chains.http import HttpEndpoint
from chains.solana import scanning
from core.errors import TransientError
from local.solana_dev import Mint, SolanaDev
from local.solana_node import SolanaNode
from tests.support.evm import changing, proxy
from tests.support.solana import reader_of, settled


@pytest.fixture(scope="module")
def node() -> Iterator[SolanaNode]:
    with SolanaNode() as node:
        yield node


@pytest.fixture(scope="module")
def dev(node: SolanaNode) -> Iterator[SolanaDev]:
    with SolanaDev(node.url) as dev:
        yield dev


@pytest.fixture(scope="module")
def mint(dev: SolanaDev) -> Mint:
    return dev.new_mint()


def spam(node: SolanaNode, payee: str, count: int) -> None:
    """That many payments, of 1, 2, 3 ... lamports, past the HTTP server."""
    payer = Keypair()
    node.chain.set_lamports(payer.pubkey(), 10**12)
    blockhash = Hash.from_string(node.chain.head.hash)
    for units in range(1, count + 1):
        paying = transfer(
            TransferParams(from_pubkey=payer.pubkey(), to_pubkey=Pubkey.from_string(payee), lamports=units)
        )
        message = Message.new_with_blockhash([paying], payer.pubkey(), blockhash)
        node.chain.send(VersionedTransaction(message, [payer]), preflight=False)


def units_of(scan: Scan) -> list[int]:
    return sorted(one.units for one in scan.transfers)


def test_more_signatures_than_a_page_holds_are_all_found(node: SolanaNode, dev: SolanaDev) -> None:
    payee = dev.new_address()
    first = settled(dev) + 1
    with node.lock:
        for count in (600, 900, 1):
            spam(node, payee, count)
            node.chain.mine()
    last = settled(dev)
    reader = reader_of(dev)
    scan = reader.scan(first, last, [payee])
    assert units_of(scan) == sorted([*range(1, 601), *range(1, 901), 1])
    assert len({(one.chain_tx, one.index) for one in scan.transfers}) == 1501
    slots = sorted({one.block_number for one in scan.transfers})
    assert [block.number for block in scan.blocks] == [*slots, last]
    again = reader.scan(slots[1], slots[1], [payee])
    assert units_of(again) == list(range(1, 901)) and [block.number for block in again.blocks] == [slots[1]]


@pytest.mark.parametrize("page", [1, 2, 3, 5, 8, 50])
def test_pages_that_end_within_a_slot_lose_nothing(
    node: SolanaNode, dev: SolanaDev, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    payee = dev.new_address()
    first = settled(dev) + 1
    with node.lock:
        for count in (3, 1, 7, 2):
            spam(node, payee, count)
            node.chain.mine()
    last = settled(dev)
    expected = sorted([1, 2, 3, 1, *range(1, 8), 1, 2])
    monkeypatch.setattr(scanning, "PAGE", page)
    reader = reader_of(dev)
    assert units_of(reader.scan(first, last, [payee])) == expected
    alone = [reader_of(dev).scan(slot, slot, [payee]) for slot in range(first, last + 1)]
    assert sorted(units for scan in alone for units in units_of(scan)) == expected


@pytest.mark.parametrize("most", [1, 4, 10])
def test_a_gateway_that_gives_shorter_pages_hides_nothing(node: SolanaNode, dev: SolanaDev, most: int) -> None:
    payee = dev.new_address()
    first = settled(dev) + 1
    with node.lock:
        for count in (3, 1, 7, 2):
            spam(node, payee, count)
            node.chain.mine()
    last = settled(dev)
    with proxy(dev.url, changing("getSignaturesForAddress", lambda rows: rows[:most])) as short:
        scan = reader_of(dev, urls=[short.url]).scan(first, last, [payee])
    assert units_of(scan) == sorted([1, 2, 3, 1, *range(1, 8), 1, 2])


def test_another_order_within_a_slot_loses_nothing(
    node: SolanaNode, dev: SolanaDev, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes have ordered a slot's signatures one way from their own disk, another way from their archive."""
    payee, counts = dev.new_address(), [5, 6, 7, 6, 7, 5, 7, 6]
    first = settled(dev) + 1
    with node.lock:
        for count in counts:
            spam(node, payee, count)
            node.chain.mine()
    last = settled(dev)
    every = dev.rpc("getSignaturesForAddress", payee)
    assert len(every) == sum(counts)
    monkeypatch.setattr(scanning, "PAGE", 20)

    def page(config: Any) -> Any:
        rows = sorted(every, key=lambda row: (-row["slot"], random.random()))
        names = [row["signature"] for row in rows]
        start = names.index(config["before"]) + 1 if "before" in config else 0
        return rows[start : start + config["limit"]]

    def change(body: Any, answers: Any) -> Any:
        return [
            answer | {"result": page(call["params"][1])} if call["method"] == "getSignaturesForAddress" else answer
            for call, answer in zip(body, answers, strict=True)
        ]

    with proxy(dev.url, change) as behind:
        for _ in range(10):
            scan = reader_of(dev, urls=[behind.url]).scan(first, last, [payee])
            assert units_of(scan) == sorted(units for count in counts for units in range(1, count + 1))


def test_payments_behind_the_range_are_not_told(node: SolanaNode, dev: SolanaDev, mint: Mint) -> None:
    payee = dev.new_address()
    before = dev.send(dev.account(mint, payee), dev.token(mint, payee, 1))
    settled(dev)
    within = dev.send(dev.coin(payee, 2), dev.token(mint, payee, 3))
    first = settled(dev)
    after = dev.pay(payee, 4)
    settled(dev)
    reader = reader_of(dev, mint)
    assert [one.chain_tx for one in reader.scan(first, first, [payee]).transfers] == [within, within]
    assert {one.chain_tx for one in reader.scan(first - 3, first + 3, [payee]).transfers} == {before, within, after}


def test_what_was_read_before_is_not_read_again(dev: SolanaDev) -> None:
    payee = dev.new_address()
    asked: list[Any] = []

    def note(body: Any, answers: Any) -> Any:
        asked.extend(call["params"][1] for call in body if call["method"] == "getSignaturesForAddress")
        return answers

    with proxy(dev.url, note) as node:
        reader = reader_of(dev, urls=[node.url])
        signature = dev.pay(payee, 5)
        slot = settled(dev)
        assert units_of(reader.scan(slot, slot, [payee])) == [5]
        dev.pay(payee, 6)
        settled(dev)
        assert units_of(reader.scan(slot + 1, slot + 3, [payee])) == [6]
        assert units_of(reader.scan(slot, slot, [payee])) == [5]
    # Each list, and the page behind it.
    assert [one.get("until") for one in asked] == [None, None, signature, signature, None, None]


def test_skipped_slots_are_no_gap(dev: SolanaDev) -> None:
    payee = dev.new_address()
    first = settled(dev) + 1
    dev.skip(3)
    dev.pay(payee, 5)
    dev.mine()
    paid = first + 3 + 2
    dev.skip(4)
    head = settled(dev)
    dev.mine(3)
    reader = reader_of(dev)
    scan = reader.scan(first, head, [payee])
    assert units_of(scan) == [5] and [block.number for block in scan.blocks] == sorted({paid, head})
    # Blocks of slots that nobody made are absent; the newest below the range stands for a range without any.
    empty = next(slot for slot in range(first, head) if slot not in reader.blocks(range(first, head + 1)))
    alone = reader.scan(empty, empty, [payee])
    assert alone.transfers == () and alone.blocks[0].number < empty
    blocks = reader.blocks(list(range(first, head + 1)))
    assert {block.number for block in scan.blocks} <= blocks.keys() and empty not in blocks


def test_a_range_above_the_head_is_refused(dev: SolanaDev) -> None:
    last = settled(dev)
    reader = reader_of(dev)
    with pytest.raises(TransientError, match="does not have every block"):
        reader.scan(last, last + 1, [])
    assert reader.scan(last, last, []).blocks == (reader.head().latest,)


def gap(lost: int) -> Callable[[Any, Any], Any]:
    """A node that started from a snapshot: it calls the slot skipped, and lists nothing of it."""

    def change(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call for call in body}
        return [told(answer, asked[answer["id"]]["method"], asked[answer["id"]]["params"]) for answer in answers]

    def told(answer: Any, method: str, params: Any) -> Any:
        if method in ("getBlocks", "getBlocksWithLimit"):
            return answer | {"result": [slot for slot in answer["result"] if slot != lost]}
        if method == "getSignaturesForAddress":
            return answer | {"result": [row for row in answer["result"] if row["slot"] != lost]}
        if method == "getBlock" and params[0] == lost:
            return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": -32007, "message": "skipped, or"}}
        return answer

    return change


@pytest.mark.parametrize("lost", [0, 1, 2, 3, 4])
def test_a_node_that_lost_blocks_is_not_believed(dev: SolanaDev, lost: int) -> None:
    """Its lists of signatures would lack those of the lost slots, without a word."""
    payee = dev.new_address()
    first = settled(dev) + 1
    dev.pay(payee, 5)
    dev.mine(5)
    dev.mine(3)
    reader_of(dev).scan(first, first + 4, [payee])
    with proxy(dev.url, gap(first + lost)) as node:
        reader = reader_of(dev, urls=[node.url])
        with pytest.raises(TransientError, match="does not have"):
            reader.scan(first, first + 4, [payee])
        with pytest.raises(TransientError, match="does not have the block"):
            reader.blocks([first + lost])


def test_a_node_that_no_longer_keeps_the_range_is_not_believed(dev: SolanaDev) -> None:
    last = settled(dev)
    with proxy(dev.url, changing("getFirstAvailableBlock", lambda _: last)) as node:
        reader = reader_of(dev, urls=[node.url])
        with pytest.raises(TransientError, match="does not have every block"):
            reader.scan(last - 1, last, [])
        assert reader.scan(last, last, []).blocks[-1].number == last


def test_a_machine_that_lags_behind_the_same_address_is_not_believed(dev: SolanaDev) -> None:
    """Blocks come from one that is up to date, lists from one that has never seen the payment."""
    payee = dev.new_address()
    behind = settled(dev)
    dev.pay(payee, 5)
    last = settled(dev)

    def lag(body: Any, answers: Any) -> Any:
        return [
            told(call["params"][1], answer) if call["method"] == "getSignaturesForAddress" else answer
            for call, answer in zip(body, answers, strict=True)
        ]

    def told(asked: Any, answer: Any) -> Any:
        if asked.get("minContextSlot", 0) <= behind:
            return answer | {"result": [row for row in answer["result"] if row["slot"] <= behind]}
        error = {"code": -32016, "message": "Minimum context slot has not been reached"}
        return {"jsonrpc": "2.0", "id": answer["id"], "error": error}

    with proxy(dev.url, lag) as node, pytest.raises(TransientError, match="Minimum context slot"):
        reader_of(dev, urls=[node.url]).scan(behind, last, [payee])


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("getTransaction", lambda _: None, "does not tell it alike"),
        ("getTransaction", lambda raw: raw | {"slot": raw["slot"] + 1}, "does not tell it alike"),
        ("getTransaction", lambda raw: raw | {"meta": None}, "can't tell what it moved"),
        ("getTransaction", lambda raw: raw | {"meta": raw["meta"] | {"err": "x"}}, "can't tell what it moved"),
        ("getBlocks", lambda slots: [*slots, slots[-1] + 9], "nonsense"),
        ("getBlocksWithLimit", lambda slots: [slots[0] - 5], "nonsense"),
        ("getBlocks", lambda _: None, "nonsense"),
        (
            "getSignaturesForAddress",
            lambda rows: [*rows, *(row | {"slot": row["slot"] + 1} for row in rows)],
            "nonsense",
        ),
        ("getMultipleAccounts", lambda _: {"value": []}, "nonsense"),
        ("getBlock", lambda raw: raw | {"blockHeight": raw["parentSlot"] * 2}, "does not have|nonsense"),
    ],
)
def test_answers_that_do_not_fit_together_are_not_believed(
    dev: SolanaDev, mint: Mint, method: str, change: Callable[[Any], Any], message: str
) -> None:
    payee = dev.new_address()
    first = settled(dev) + 1
    dev.pay(payee, 5)
    last = settled(dev)
    dev.mine(2)
    with proxy(dev.url, changing(method, change)) as node, pytest.raises(TransientError, match=message):
        reader_of(dev, mint, urls=[node.url]).scan(first, last, [payee])


def test_a_list_that_never_ends_is_given_up(dev: SolanaDev, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PAGE", 1)
    payee = dev.new_address()
    dev.pay(payee, 5)
    slot = settled(dev)
    page: list[Any] = []

    def same(rows: list[Any]) -> list[Any]:
        page[:] = page or rows
        return page

    with (
        proxy(dev.url, changing("getSignaturesForAddress", same)) as node,
        pytest.raises(TransientError, match="never ends"),
    ):
        reader_of(dev, urls=[node.url]).scan(slot - 2, slot, [payee])


def test_a_version_that_nobody_can_read_does_not_keep_the_others_from_being_read(dev: SolanaDev) -> None:
    payee = dev.new_address()
    first = settled(dev) + 1
    future, known = dev.send(dev.coin(payee, 5)), dev.send(dev.coin(payee, 6))
    last = settled(dev)

    def refuse(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call["params"][0] for call in body if call["params"]}
        error = {"code": -32015, "message": "Transaction version (2) is not supported by the requesting client"}
        return [
            {"jsonrpc": "2.0", "id": answer["id"], "error": error} if asked.get(answer["id"]) == future else answer
            for answer in answers
        ]

    with proxy(dev.url, refuse) as node:
        reader = reader_of(dev, urls=[node.url])
        assert units_of(reader.scan(first, last, [payee])) == [6]
        told = reader.chain_txs([future, known])
    assert [told[signature].status for signature in (future, known)] == ["mempool", "succeeded"]


def test_what_one_node_said_is_no_hint_for_another(dev: SolanaDev, mint: Mint) -> None:
    """A lie in it would hide the payments that the honest one knows: those before a signature, or to other accounts."""
    payee = dev.new_address()
    first = settled(dev) + 1
    paid = dev.send(dev.account(mint, payee), dev.token(mint, payee, 5))
    late = dev.pay(payee, 6)
    last = settled(dev)
    begun: list[str] = []

    def lies(body: Any, answers: Any) -> Any:
        if any(call["method"] == "getBlocks" for call in body) and begun:
            return [{"jsonrpc": "2.0", "id": call["id"], "error": {"code": 1, "message": "no"}} for call in body]
        return [told(call["method"], answer) for call, answer in zip(body, answers, strict=True)]

    def told(method: str, answer: Any) -> Any:
        if method == "getSignaturesForAddress":
            return answer | {"result": [{"signature": late, "slot": first - 1, "err": "failed"}]}
        if method == "getMultipleAccounts":
            other = {"owner": str(TOKEN_PROGRAM_ID if mint.program == TOKEN_2022_PROGRAM_ID else TOKEN_2022_PROGRAM_ID)}
            return answer | {"result": {"value": [other]}}
        return answer

    with proxy(dev.url, lies) as liar:
        reader = reader_of(dev, mint, urls=[liar.url, dev.url])
        assert reader.scan(first - 1, first - 1, [payee]).transfers == ()
        begun.append("yes")
        found = reader.scan(first, last, [payee]).transfers
    assert {one.chain_tx for one in found} == {paid, late}


def test_no_more_transactions_are_held_than_a_few(
    node: SolanaNode, dev: SolanaDev, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of a megabyte each cost whoever sends them next to nothing."""
    monkeypatch.setattr(scanning, "TXS_AT_ONCE", 7)
    payee, running = dev.new_address(), []
    first = settled(dev) + 1
    with node.lock:
        spam(node, payee, 30)
        node.chain.mine()
    last = settled(dev)
    read = scanning.read_txs

    def counted(endpoint: HttpEndpoint, ids: Sequence[str]) -> dict[str, object]:
        running.append(len(ids))
        return read(endpoint, ids)

    monkeypatch.setattr(scanning, "read_txs", counted)
    assert units_of(reader_of(dev).scan(first, last, [payee])) == list(range(1, 31))
    assert running == [7, 7, 7, 7, 2]


@pytest.mark.parametrize("lost", [None, -32001, -32007, -32009])
def test_a_transaction_whose_block_is_gone_or_timeless_costs_the_others_nothing(
    dev: SolanaDev, lost: int | None
) -> None:
    """Anybody can name one of 2020: a node may have kept it without its block, and early blocks have no time."""
    old = dev.pay(dev.new_address(), 5)
    settled(dev)
    new = dev.pay(dev.new_address(), 6)
    settled(dev)
    slot = reader_of(dev).chain_txs([old])[old].block_number or 0

    def change(body: Any, answers: Any) -> Any:
        return [
            told(answer) if call["method"] == "getBlock" and call["params"][0] == slot else answer
            for call, answer in zip(body, answers, strict=True)
        ]

    def told(answer: Any) -> Any:
        if lost is None:
            return answer | {"result": answer["result"] | {"blockTime": None}}
        return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": lost, "message": "gone"}}

    with proxy(dev.url, change) as node:
        found = reader_of(dev, urls=[node.url]).chain_txs([old, new])
    assert (found[old].status, found[old].transfers) == (TxStatus.MEMPOOL, ())
    assert found[new].status is TxStatus.SUCCEEDED and found[new].transfers
