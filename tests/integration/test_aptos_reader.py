"""The reader against a full node's API over HTTP: what is read, what it costs, and what is not believed."""

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog.testing

from chains import http
from chains.aptos.reader import AptosReader
from chains.base import TxStatus
from chains.errors import DisagreementError, RefusedError
from config.assets import Asset, Chain, Node
from core.errors import PermanentError, TransientError
from tests.support.aptos_ledger import Ledger, Move
from tests.support.aptos_node import Answer, AptosNode
from tests.unit.test_aptos_transfers import LZ_USDT, LZ_USDT_METADATA, PAYEE, PAYER, USDT, recorded

CHAIN = "aptos:1"
ASSETS = [
    Asset(id=f"{CHAIN}/slip44:637", symbol="APT", scale=8),
    Asset(id=f"{CHAIN}/fungible:{USDT}", symbol="USDT", scale=6),
    Asset(id=f"{CHAIN}/coin:{LZ_USDT}", symbol="lzUSDT", scale=6),
]
SCAN_MAX = 50


def chain(*urls: str, **fields: Any) -> Chain:
    given = {
        "id": CHAIN,
        "name": "Aptos",
        "namespace": "aptos",
        "confirmations": "finalized",
        "reorg_depth": 0,
        "block_time_ms": 1000,
        "scan_blocks_max": SCAN_MAX,
        "head_age_max_s": 0,
        "nodes": tuple(Node(url=url) for url in urls),
    }
    return Chain.model_validate(given | fields)


def reader_of(*urls: str) -> AptosReader:
    return AptosReader(chain(*urls), ASSETS, connect_timeout=1, read_timeout=2)


@pytest.fixture
def node() -> Iterator[AptosNode]:
    with AptosNode() as node:
        node.mine(5)
        yield node


@pytest.fixture
def reader(node: AptosNode) -> AptosReader:
    return reader_of(node.url)


def pay(node: AptosNode, *moves: Move, **fields: Any) -> str:
    with node.lock:
        return node.ledger.submit(*moves, **{"sender": PAYER} | fields)


def height(node: AptosNode) -> int:
    return int(node.ledger.blocks[-1]["block_height"])


class TestReading:
    def test_a_recorded_block_is_read_by_hash_and_by_scan_alike(self) -> None:
        for name in ("block-57347454.json", "block-445814139.json", "block-456015808.json"):
            ledger = Ledger()
            ledger.hold(recorded(name))
            with AptosNode(ledger) as node:
                reader = reader_of(node.url)
                head = reader.head().latest
                assert f"block-{head.number}.json" == name and reader.blocks([head.number]) == {head.number: head}
                found = reader.chain_txs([tx["hash"] for tx in ledger.txs])
                assert {tx.block_hash for tx in found.values()} == {head.hash}
                moved = [transfer for tx in found.values() for transfer in tx.transfers]
                scan = reader.scan(head.number, head.number, [transfer.recipient for transfer in moved] or [PAYEE])
                assert scan.blocks == (head,)
                assert set(scan.transfers) == set(moved)
                assert len(moved) == {"block-57347454.json": 1, "block-445814139.json": 3}.get(name, 0)

    def test_a_scan_is_all_of_its_range_in_pages_of_many_blocks(self, node: AptosNode, reader: AptosReader) -> None:
        first = height(node) + 1
        sent = []
        for number in range(30):
            sent += [pay(node, Move(PAYEE, number * 10 + n), sender=f"0x{n:060x}0fee") for n in range(7)]
            node.mine()
        node.asked.clear()
        scan = reader.scan(first, first + 29, [PAYEE])
        assert [t.units for t in scan.transfers if t.units % 10 == 3] == [number * 10 + 3 for number in range(30)]
        assert {t.chain_tx for t in scan.transfers} == set(sent) - {sent[0]}  # nothing was sent with the first
        assert [block.number for block in scan.blocks] == list(range(first, first + 30))
        told = reader.blocks(list(range(first, first + 30)))
        assert {block.number: block for block in scan.blocks} == told
        versions = 30 * 9
        pages = [asked for asked in node.asked if asked.startswith("/v1/transactions?")]
        assert len(pages) == versions // 100 + 1

    def test_a_node_may_give_shorter_pages(self) -> None:
        with AptosNode(page_max=2) as node:
            node.mine(2)
            for number in range(9):
                pay(node, Move(PAYEE, number + 1), sender=f"0x{number:060x}0fee")
            node.mine()
            block = node.answer("/v1/blocks/by_height/2", {"with_transactions": "true"})[1]
            assert len(block["transactions"]) == 2
            assert len(reader_of(node.url).scan(2, 2, [PAYEE]).transfers) == 9

    @pytest.mark.parametrize("most", [5, 1, 0])
    def test_a_page_that_a_node_refuses_is_asked_in_smaller_ones(
        self, node: AptosNode, reader: AptosReader, most: int
    ) -> None:
        def say(path: str, answer: Answer) -> Answer:
            too_long = {"message": "response too large", "error_code": "invalid_input", "vm_error_code": None}
            return (413, too_long) if path.startswith("/v1/transactions?") and len(answer[1]) > most else answer

        sent = {pay(node, Move(PAYEE, n), sender=f"0x{n:060x}0fee") for n in range(1, 20)}
        node.mine()
        node.answers = say
        if most:
            found = reader.scan(height(node) - 1, height(node), [PAYEE]).transfers
            assert {transfer.chain_tx for transfer in found} == sent
        else:
            with pytest.raises(RefusedError, match="refused"):
                reader.scan(height(node) - 1, height(node), [PAYEE])

    def test_a_transaction_longer_than_any_answer_costs_its_neighbours_nothing(
        self, node: AptosNode, reader: AptosReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One transaction may have 10 MB of events (aptos-gas-schedule), which are many times that in JSON."""
        monkeypatch.setattr(http, "ANSWER_BYTES_MAX", 200_000)
        sent = [pay(node, Move(PAYEE, n), sender=f"0x{n:060x}0fee") for n in range(1, 20)]
        node.mine()

        def say(path: str, answer: Answer) -> Answer:
            if not path.startswith("/v1/transactions"):
                return answer
            rows = answer[1] if isinstance(answer[1], list) else [answer[1]]
            for row in rows:
                if row["hash"] == sent[7]:
                    row["events"] = row["events"] + [{"type": "0xbad::x::Y", "data": "x" * 300_000}]
            return answer

        node.answers = say
        with structlog.testing.capture_logs() as logs:
            found = reader.scan(height(node) - 1, height(node), [PAYEE]).transfers
        assert {transfer.chain_tx for transfer in found} == {*sent} - {sent[7]}
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [
            "a transaction that is too long is passed over"
        ]
        with pytest.raises(RefusedError, match="more than"):
            reader.chain_txs([sent[7]])
        assert reader.chain_txs([sent[8]])[sent[8]].transfers

    def test_the_head_is_found_without_the_nodes_index_of_blocks(self, node: AptosNode, reader: AptosReader) -> None:
        def say(path: str, answer: Answer) -> Answer:
            return (200, answer[1] | {"block_height": "0"}) if path == "/v1" else answer

        node.answers = say
        head = reader.head()
        assert head.latest.number == head.finalized == height(node)

    def test_a_transaction_waits_and_expires(self, node: AptosNode, reader: AptosReader) -> None:
        sent = pay(node, Move(PAYEE, 5), expires_in_s=-1)
        found = reader.chain_txs([sent])[sent]
        assert found.status is TxStatus.MEMPOOL and found.valid_until is not None
        node.mine()
        assert reader.chain_txs([sent])[sent].status is TxStatus.MISSING
        assert reader.head().latest.time >= found.valid_until
        assert reader.spent(found.inputs) == frozenset()

    def test_an_orderless_transaction_has_no_inputs_and_ends_in_time(
        self, node: AptosNode, reader: AptosReader
    ) -> None:
        sent = pay(node, Move(PAYEE, 5), orderless=True, expires_in_s=60)
        waiting = reader.chain_txs([sent])[sent]
        assert waiting.inputs == () and waiting.valid_until is not None
        assert waiting.valid_until - datetime.now(UTC) < timedelta(seconds=61)
        node.mine()
        assert reader.chain_txs([sent])[sent].status is TxStatus.SUCCEEDED

    def test_sequence_numbers_are_spent_up_to_a_block(self, node: AptosNode, reader: AptosReader) -> None:
        before = height(node)
        inputs = [f"{PAYER}/0", f"{PAYER}/1", f"{PAYER}/2", f"{PAYEE}/0"]
        assert reader.spent(inputs) == frozenset()
        for _ in range(2):
            pay(node, Move(PAYEE, 5))
            node.mine()
        assert reader.spent(inputs) == {inputs[0], inputs[1]}
        assert [reader.spent(inputs, block=before + n) for n in range(3)] == [
            set(),
            {inputs[0]},
            {inputs[0], inputs[1]},
        ]
        with pytest.raises(TransientError, match="does not have block"):
            reader.spent(inputs, block=before + 3)

    def test_an_account_of_a_pruned_version_is_not_told_as_of_now(self, node: AptosNode, reader: AptosReader) -> None:
        pay(node, Move(PAYEE, 5))
        node.mine()

        def say(path: str, answer: Answer) -> Answer:
            pruned = {"message": "pruned", "error_code": "version_pruned", "vm_error_code": None}
            return (410, pruned) if "ledger_version" in path else answer

        node.answers = say
        with pytest.raises(RefusedError, match="pruned"):
            reader.spent([f"{PAYER}/0"], block=1)
        assert reader.spent([f"{PAYER}/0"]) == {f"{PAYER}/0"}

    def test_an_account_that_the_node_has_not_heard_of_has_sent_nothing(
        self, node: AptosNode, reader: AptosReader
    ) -> None:
        absent = {"message": "Account not found", "error_code": "account_not_found", "vm_error_code": None}
        node.answers = lambda path, answer: (404, absent) if "/accounts/" in path else answer
        assert reader.spent([f"{PAYER}/0"]) == frozenset()


class TestDisbelief:
    def test_a_node_of_another_chain(self, node: AptosNode, reader: AptosReader) -> None:
        node.ledger.chain_id = 2
        with pytest.raises(TransientError, match="aptos:2, not of aptos:1"):
            reader.head()
        assert set(node.asked) == {"/v1"}

    @pytest.mark.parametrize(
        "answer",
        [
            (404, {"message": "no Route matched with those values"}),
            (404, "not found"),
            (404, {"message": "gone", "error_code": "resource_not_found"}),
            (500, {"message": "oh", "error_code": "internal_error", "vm_error_code": None}),
            (503, {"message": "oh"}),
            (302, {}),
            (200, None),
            (200, []),
            (200, {}),
            (200, b"<html>"),
            (200, {"type": "user_transaction", "hash": "0x" + "0" * 64}),
        ],
    )
    def test_a_transaction_is_missing_only_if_the_node_itself_says_so(
        self, node: AptosNode, reader: AptosReader, answer: Answer
    ) -> None:
        sent = pay(node, Move(PAYEE, 5))
        node.mine()
        reader.head()
        node.answers = lambda path, true: answer if "by_hash" in path else true
        with pytest.raises(TransientError) as caught:
            reader.chain_txs([sent])
        assert "/v1" not in str(caught.value).split("127.0.0.1")[0] and node.url not in str(caught.value)

    def test_a_rate_limit_is_handed_on_with_its_wish(self, node: AptosNode, reader: AptosReader) -> None:
        reader.head()
        node.answers = lambda _, __: (429, {"message": "slow down"})
        node.headers = {"Retry-After": "7"}
        with pytest.raises(TransientError, match="rate") as caught:
            reader.chain_txs(["0x" + "7" * 64])
        assert caught.value.retry_after == timedelta(seconds=7)

    def test_a_pruned_node_says_so(self, node: AptosNode, reader: AptosReader) -> None:
        node.ledger.oldest = int(node.ledger.blocks[3]["first_version"])
        with pytest.raises(RefusedError, match="pruned"):
            reader.scan(2, 4, [PAYEE])
        scan = reader.scan(3, 4, [PAYEE])
        assert [(block.number, block.parent_hash != "") for block in scan.blocks] == [(3, False), (4, True)]

    @pytest.mark.parametrize("at", ["first", "middle", "last"])
    def test_a_page_with_a_gap_is_refused(self, node: AptosNode, reader: AptosReader, at: str) -> None:
        def say(path: str, answer: Answer) -> Answer:
            if not path.startswith("/v1/transactions?") or len(answer[1]) == 1:
                return answer
            txs = list(answer[1])
            del txs[{"first": 0, "middle": len(txs) // 2, "last": -1}[at]]
            return 200, txs

        pay(node, Move(PAYEE, 5))
        node.mine()
        last = height(node)
        node.answers = say
        if at == "last":  # a shorter page, which goes on with the next
            assert len(reader.scan(last - 2, last, [PAYEE]).transfers) == 1
        else:
            with pytest.raises(TransientError, match="told of"):
                reader.scan(last - 2, last, [PAYEE])

    @pytest.mark.parametrize(
        ("name", "value"),
        [("first_version", "1"), ("last_version", "4"), ("block_hash", "0x" + "7" * 64), ("block_timestamp", "7")],
    )
    def test_a_block_that_is_not_what_its_transactions_say_is_refused(
        self, node: AptosNode, reader: AptosReader, name: str, value: str
    ) -> None:
        last = height(node)
        node.answers = lambda path, answer: (
            (200, answer[1] | {name: value}) if path.startswith(f"/v1/blocks/by_height/{last}") else answer
        )
        with pytest.raises(TransientError):
            reader.scan(last - 1, last, [PAYEE])

    def test_another_block_than_the_one_asked_for_is_refused(self, node: AptosNode, reader: AptosReader) -> None:
        other = node.answer("/v1/blocks/by_height/2", {})
        node.answers = lambda path, answer: other if "/blocks/by_" in path else answer
        for read in (lambda: reader.blocks([3]), reader.head):
            with pytest.raises(TransientError, match="told of"):
                read()

    def test_the_block_of_another_version_is_refused(self, node: AptosNode, reader: AptosReader) -> None:
        sent = pay(node, Move(PAYEE, 5))
        node.mine()
        other = node.answer("/v1/blocks/by_height/2", {})
        node.answers = lambda path, answer: other if "/blocks/by_version" in path else answer
        with pytest.raises(TransientError, match="asked for the block of version"):
            reader.chain_txs([sent])

    def test_blocks_that_do_not_follow_each_other_are_refused(self, node: AptosNode, reader: AptosReader) -> None:
        node.answers = lambda path, answer: (
            (200, answer[1] | {"last_version": "3"}) if path.startswith("/v1/blocks/by_height/2?") else answer
        )
        with pytest.raises(TransientError, match="not where 2 ends"):
            reader.blocks([3])

    @pytest.mark.parametrize(("name", "value"), [("block_hash", "0x" + "7" * 64), ("block_timestamp", "7")])
    def test_a_scans_first_block_has_to_begin_as_it_is_told(
        self, node: AptosNode, reader: AptosReader, name: str, value: str
    ) -> None:
        node.answers = lambda path, answer: (
            (200, answer[1] | {name: value}) if path.startswith("/v1/blocks/by_height/2?") else answer
        )
        with pytest.raises(TransientError, match="but begins as"):
            reader.scan(2, 4, [PAYEE])

    def test_heights_that_are_skipped_are_refused(self, node: AptosNode, reader: AptosReader) -> None:
        def say(path: str, answer: Answer) -> Answer:
            if not path.startswith("/v1/transactions?"):
                return answer
            text = json.dumps(answer[1])
            return 200, json.loads(text.replace('"height": "3"', '"height": "33"'))

        node.answers = say
        with pytest.raises(TransientError, match="comes after"):
            reader.scan(2, 4, [PAYEE])

    def test_two_nodes_have_to_tell_a_payment_alike(self) -> None:
        ledger = Ledger()
        with AptosNode(ledger) as one, AptosNode(ledger, host="127.0.0.2") as other:
            one.mine(3)
            sent = pay(one, Move(PAYEE, 5, USDT))
            one.mine()
            reader = reader_of(one.url, other.url)
            (transfer,) = reader.agreed([sent])[sent].transfers
            assert transfer.units == 5
            liar: dict[str, Any] = {
                "more": '"amount": "7"',
                "failed": '"success": false',
                "late": '"pending_transaction"',
            }
            truth = {"more": '"amount": "5"', "failed": '"success": true', "late": '"user_transaction"'}
            for kind, lie in liar.items():

                def say(path: str, answer: Answer, true: str = truth[kind], lie: str = lie) -> Answer:
                    return (200, json.loads(json.dumps(answer[1]).replace(true, lie))) if "by_hash" in path else answer

                other.answers = say
                with pytest.raises(DisagreementError):
                    reader.agreed([sent])

    def test_a_node_that_lags_is_no_witness_and_no_liar(self) -> None:
        with AptosNode() as one:
            one.mine(3)
            with AptosNode(deepcopy(one.ledger), host="127.0.0.2") as late:
                sent = pay(one, Move(PAYEE, 5, USDT))
                one.mine()
                reader = reader_of(one.url, late.url)
                with pytest.raises(TransientError, match="is behind") as caught:
                    reader.agreed([sent])
                assert not isinstance(caught.value, DisagreementError)
                assert [each.trouble for each in reader.nodes()] == [None, None]

    def test_what_one_node_fails_to_tell_the_next_one_does(self, node: AptosNode) -> None:
        with AptosNode(node.ledger, host="127.0.0.2") as broken:
            broken.answers = lambda _, __: (200, b"{")
            assert reader_of(broken.url, node.url).head().latest.number == height(node)


class TestConfiguration:
    @pytest.mark.parametrize(
        "id_",
        [
            "slip44:60",
            "fungible:0xa",
            "fungible:0x" + "a".rjust(64, "0"),
            f"fungible:{USDT.upper()}",
            "coin:0x1::aptos_coin::AptosCoin",
            "coin:0x1%3A%3Aaptos%5Fcoin%3A%3AAptosCoin",
            "erc20:0x" + "1" * 40,
        ],
    )
    def test_an_asset_that_could_never_be_recognised_is_refused(self, id_: str) -> None:
        with pytest.raises(PermanentError, match="names neither"):
            AptosReader(chain("http://127.0.0.1:1/v1"), [Asset(id=f"{CHAIN}/{id_}", symbol="X", scale=8)])

    def test_a_coin_and_the_asset_it_is_paired_with_are_not_two(self) -> None:
        paired = Asset(id=f"{CHAIN}/fungible:{LZ_USDT_METADATA}", symbol="lzUSDT", scale=6)
        with pytest.raises(PermanentError, match="one asset"):
            AptosReader(chain("http://127.0.0.1:1/v1"), [*ASSETS, paired])

    def test_a_chain_is_named_by_its_number_and_replaces_no_block(self) -> None:
        for fields in ({"id": "aptos:mainnet"}, {"reorg_depth": 4}, {"nodes": ()}):
            with pytest.raises(PermanentError):
                AptosReader(chain("http://127.0.0.1:1/v1", **fields), [])
