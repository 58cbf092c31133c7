"""What every chain adapter promises, run over the kinds of chain. A new one adds a lab, and changes nothing here."""

from collections.abc import Iterable
from dataclasses import FrozenInstanceError, asdict
from itertools import pairwise

import pytest

from chains import formats
from chains.base import Block, ChainReader, ChainTx, Transfer, TxStatus
from config import assets
from core.errors import InvalidRequestError, TransientError
from tests.conformance.lab import Lab, Payment

UNITS = 1_000_000
"""Of anything. No chain takes a payment of so many for dust, or for too little to open an account with."""


def need(lab: Lab, what: str) -> None:
    if what not in lab.can:
        pytest.skip(f"{lab.chain} has no {what}")


def settle(lab: Lab) -> None:
    """What waits becomes as final as it gets."""
    for _ in range(lab.final_after):
        lab.mine()


def final_only(lab: Lab) -> bool:
    return assets.registry().chains[lab.chain].reorg_depth == 0


def read(reader: ChainReader, chain_tx: str) -> ChainTx:
    return reader.chain_txs([chain_tx])[chain_tx]


def to(recipient: str, transfers: Iterable[Transfer]) -> list[Transfer]:
    """Without change, fees and the calls that carried tokens."""
    return [transfer for transfer in transfers if transfer.recipient == recipient]


def scan(reader: ChainReader, first: int, last: int, addresses: list[str]) -> tuple[list[Block], list[Transfer]]:
    """The whole range, in parts no longer than the chain allows."""
    blocks: list[Block] = []
    transfers: list[Transfer] = []
    step = assets.registry().chains[reader.id].scan_blocks_max
    for start in range(first, last + 1, step):
        part = reader.scan(start, min(start + step - 1, last), addresses)
        blocks += part.blocks
        transfers += part.transfers
    return blocks, transfers


def same(scanned: Transfer, told: Transfer) -> bool:
    """Alike but for the block's time, which one of the two readings may lack."""
    times = {scanned.block_time, told.block_time} - {None}
    ignored = {"block_time": None}
    return len(times) < 2 and asdict(scanned) | ignored == asdict(told) | ignored


class TestBlocks:
    def test_the_head_is_a_block_of_the_chain(self, lab: Lab, reader: ChainReader) -> None:
        settle(lab)
        head = reader.head()
        assert reader.id == lab.chain
        assert reader.blocks([head.latest.number]) == {head.latest.number: head.latest}
        assert head.finalized is None or head.finalized <= head.latest.number
        assert head.latest.time.tzinfo is not None and head.latest.time.utcoffset() is not None

    def test_the_head_moves_on(self, lab: Lab, reader: ChainReader) -> None:
        settle(lab)
        before = reader.head().latest
        lab.mine(3)
        after = reader.head().latest
        assert after.number > before.number and after.hash != before.hash and after.time >= before.time
        assert reader.blocks([before.number]) == {before.number: before}

    def test_blocks_are_linked_by_their_parents_and_end_at_the_head(self, lab: Lab, reader: ChainReader) -> None:
        lab.mine(5 + lab.final_after)
        latest = reader.head().latest.number
        found = reader.blocks([*range(latest - 4, latest + 2), latest])
        assert max(found) == latest and len(found) > 1
        assert all(block.number == number for number, block in found.items())
        assert all(found[b].parent_hash == found[a].hash for a, b in pairwise(sorted(found)))

    def test_nothing_asked_is_nothing_answered(self, reader: ChainReader) -> None:
        assert reader.chain_txs([]) == {} and reader.blocks([]) == {} and reader.spent([]) == frozenset()


class TestTransactions:
    def test_a_payment_is_seen_and_then_confirmed(self, lab: Lab, reader: ChainReader) -> None:
        payee = lab.new_address()
        settle(lab)
        first = reader.head().latest.number + 1
        chain_tx = lab.pay(Payment(payee, UNITS))
        waiting = read(reader, chain_tx)
        # Where a payment can be outbid there is a mempool in which it can be seen.
        seen = {TxStatus.MEMPOOL} if lab.can & {"replace", "drop"} else {TxStatus.MEMPOOL, TxStatus.MISSING}
        assert waiting.id == chain_tx and waiting.status in seen
        assert (waiting.transfers, waiting.block_number, waiting.block_hash) == ((), None, None)
        lab.mine()
        if final_only(lab) and lab.final_after > 1:
            unsettled = read(reader, chain_tx)
            assert unsettled.status is TxStatus.MEMPOOL
            assert (unsettled.transfers, unsettled.block_number, unsettled.block_hash) == ((), None, None)
            assert scan(reader, first, reader.head().latest.number, [payee])[1] == []
            settle(lab)
        found = read(reader, chain_tx)
        assert found.status is TxStatus.SUCCEEDED and found.block_number is not None
        assert first <= found.block_number <= reader.head().latest.number
        assert reader.blocks([found.block_number])[found.block_number].hash == found.block_hash

    @pytest.mark.parametrize("kind", ["coin", "token"])
    def test_a_payment_is_told_in_full(self, lab: Lab, reader: ChainReader, kind: str) -> None:
        asset: str = getattr(lab, kind)
        payee = lab.new_address()
        chain_tx = lab.pay(Payment(payee, UNITS + 7, asset))
        settle(lab)
        found = read(reader, chain_tx)
        (transfer,) = to(payee, found.transfers)
        assert (transfer.chain, transfer.chain_tx, transfer.asset) == (lab.chain, chain_tx, asset)
        assert transfer.units == UNITS + 7 and type(transfer.units) is int
        assert transfer.contract == assets.registry().assets[asset].contract
        assert (transfer.block_number, transfer.block_hash) == (found.block_number, found.block_hash)
        if formats.tells_payer(lab.chain):
            assert transfer.sender is not None
            assert formats.parse_address(lab.chain, transfer.sender) == transfer.sender
        else:
            assert transfer.sender is None

    def test_every_id_is_answered_in_the_spelling_that_was_asked(self, lab: Lab, reader: ChainReader) -> None:
        paid = [lab.pay(Payment(lab.new_address(), UNITS)) for _ in range(2)]
        settle(lab)
        asked = [paid[0], lab.missing, paid[1], paid[0]]
        found = reader.chain_txs(asked)
        assert list(found) == [paid[0], lab.missing, paid[1]]
        assert found[lab.missing] == ChainTx(id=lab.missing, status=TxStatus.MISSING)
        assert [found[id_].status for id_ in paid] == [TxStatus.SUCCEEDED] * 2

    def test_one_transaction_has_one_id_however_it_is_spelled(self, lab: Lab, reader: ChainReader) -> None:
        chain_tx = lab.pay(Payment(lab.new_address(), UNITS))
        settle(lab)
        bare = chain_tx.removeprefix("0x")
        for spelling in {bare, bare.upper(), bare.lower(), "0x" + bare, "0x" + bare.upper()}:
            try:
                canonical = formats.parse_chain_tx(lab.chain, spelling)
            except InvalidRequestError:
                continue
            if canonical == chain_tx:  # where case matters, another spelling is another transaction
                assert list(reader.chain_txs([spelling])) == [spelling]
                assert reader.chain_txs([spelling])[spelling] == read(reader, chain_tx)

    def test_what_failed_moved_nothing(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "fail")
        payee = lab.new_address()
        settle(lab)
        first = reader.head().latest.number + 1
        chain_tx = lab.fail(payee, UNITS)
        settle(lab)
        found = read(reader, chain_tx)
        assert (found.status, found.transfers) == (TxStatus.REVERTED, ())
        assert found.block_number is not None and found.block_number >= first
        assert scan(reader, first, reader.head().latest.number, [payee])[1] == []

    def test_each_of_several_transfers_in_one_transaction_counts(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "many")
        payee, other = lab.new_address(), lab.new_address()
        settle(lab)
        first = reader.head().latest.number + 1
        # Two that are alike in everything but their place.
        alike = Payment(payee, UNITS, lab.token)
        chain_tx = lab.pay(alike, alike, Payment(other, 3 * UNITS, lab.token))
        settle(lab)
        found = [t for t in read(reader, chain_tx).transfers if t.recipient in (payee, other)]
        assert sorted((t.recipient, t.units) for t in found) == sorted(
            [(payee, UNITS), (payee, UNITS), (other, 3 * UNITS)]
        )
        assert len({t.index for t in found}) == 3
        _, scanned = scan(reader, first, reader.head().latest.number, [payee, other])
        by_index = {t.index: t for t in found}
        assert len(scanned) == 3 and all(same(t, by_index[t.index]) for t in scanned)

    def test_a_token_that_nobody_listed_is_no_asset(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "strange")
        payee = lab.new_address()
        settle(lab)
        first = reader.head().latest.number + 1
        chain_tx = lab.pay_strange(payee, UNITS)
        settle(lab)
        (transfer,) = to(payee, read(reader, chain_tx).transfers)
        assert (transfer.asset, transfer.units) == (None, UNITS)
        assert transfer.contract not in (None, assets.registry().assets[lab.token].contract)
        _, (scanned,) = scan(reader, first, reader.head().latest.number, [payee])
        assert same(scanned, transfer)

    def test_a_transfer_of_nothing_is_told_as_that(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "zero")
        payee = lab.new_address()
        chain_tx = lab.pay(Payment(payee, 0, lab.token))
        settle(lab)
        assert [(t.asset, t.units) for t in to(payee, read(reader, chain_tx).transfers)] == [(lab.token, 0)]

    @pytest.mark.parametrize("kind", ["coin", "token"])
    def test_a_tag_is_told_with_its_transfer(self, lab: Lab, reader: ChainReader, kind: str) -> None:
        need(lab, "tag")
        assert formats.takes_tags(lab.chain)
        payee, tag = lab.new_address(), formats.new_tag(lab.chain)
        settle(lab)
        first = reader.head().latest.number + 1
        tagged = lab.pay(Payment(payee, UNITS, getattr(lab, kind), tag))
        plain = lab.pay(Payment(payee, UNITS, getattr(lab, kind)))
        settle(lab)
        (with_tag,), (without,) = (to(payee, read(reader, id_).transfers) for id_ in (tagged, plain))
        assert tag in with_tag.tags and tag not in without.tags
        _, scanned = scan(reader, first, reader.head().latest.number, [payee])
        assert {t.chain_tx: t.tags for t in scanned} == {tagged: with_tag.tags, plain: without.tags}

    def test_a_transaction_says_until_when_it_is_valid(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "expire")
        chain_tx = lab.pay(Payment(lab.new_address(), UNITS))
        waiting = read(reader, chain_tx)
        settle(lab)
        found = read(reader, chain_tx)
        assert found.valid_until is not None and found.valid_until.tzinfo is not None
        assert waiting.valid_until in (None, found.valid_until)
        assert found.block_number is not None
        assert found.valid_until >= reader.blocks([found.block_number])[found.block_number].time


class TestReplacedAndDropped:
    def test_a_replaced_payment_is_told_by_what_it_would_have_spent(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "replace")
        payee = lab.new_address()
        settle(lab)
        before = reader.head().latest.number
        chain_tx = lab.pay(Payment(payee, UNITS))
        inputs = read(reader, chain_tx).inputs
        assert inputs and reader.spent(inputs) == frozenset()
        other = lab.replace(chain_tx)
        assert reader.spent(inputs) == frozenset()  # the other one may never be in a block either
        settle(lab)
        assert read(reader, chain_tx).status in (TxStatus.MISSING, TxStatus.MEMPOOL)
        used = reader.spent(inputs)
        assert used and used <= set(inputs) and used <= set(read(reader, other).inputs)
        assert reader.spent(inputs, block=reader.head().latest.number) == used
        assert reader.spent(inputs, block=before) in (frozenset(), used)  # nodes may not remember
        assert scan(reader, before, reader.head().latest.number, [payee])[1] == []

    def test_a_confirmed_payment_has_spent_its_inputs(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "replace")
        one, other = (lab.pay(Payment(lab.new_address(), UNITS)) for _ in range(2))
        settle(lab)
        found = reader.chain_txs([one, other])
        inputs = [*found[one].inputs, *found[other].inputs]
        assert reader.spent(inputs) == set(inputs) and not set(found[one].inputs) & set(found[other].inputs)

    def test_a_dropped_payment_is_missing_and_has_spent_nothing(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "drop")
        chain_tx = lab.pay(Payment(lab.new_address(), UNITS))
        inputs = read(reader, chain_tx).inputs
        lab.drop(chain_tx)
        assert read(reader, chain_tx) == ChainTx(id=chain_tx, status=TxStatus.MISSING)
        settle(lab)
        assert read(reader, chain_tx).status is TxStatus.MISSING
        assert reader.spent(inputs) == frozenset()


class TestScan:
    def test_a_transfer_is_the_same_by_its_transaction_and_by_a_scan(self, lab: Lab, reader: ChainReader) -> None:
        payee, other = lab.new_address(), lab.new_address()
        settle(lab)
        first = reader.head().latest.number + 1
        ids = [lab.pay(Payment(payee, UNITS)), lab.pay(Payment(payee, UNITS + 1, lab.token))]
        lab.pay(Payment(other, UNITS))
        lab.mine()
        ids.append(lab.pay(Payment(payee, UNITS + 2)))
        settle(lab)
        told = {(t.chain_tx, t.index): t for tx in reader.chain_txs(ids).values() for t in to(payee, tx.transfers)}
        _, scanned = scan(reader, first, reader.head().latest.number, [payee])
        assert sorted(t.units for t in scanned) == [UNITS, UNITS + 1, UNITS + 2]
        assert {(t.chain_tx, t.index) for t in scanned} == told.keys()
        assert all(same(t, told[t.chain_tx, t.index]) for t in scanned)

    def test_a_scan_is_the_same_when_repeated_and_in_parts(self, lab: Lab, reader: ChainReader) -> None:
        payees = [lab.new_address() for _ in range(3)]
        settle(lab)
        first = reader.head().latest.number + 1
        for payee in payees:
            lab.pay(Payment(payee, UNITS, lab.token))
            lab.mine()
        settle(lab)
        last = min(reader.head().latest.number, first + assets.registry().chains[lab.chain].scan_blocks_max - 1)
        whole = reader.scan(first, last, payees)
        assert [t.recipient for t in whole.transfers] == payees
        assert reader.scan(first, last, payees) == whole
        for cut in range(first, last):
            parts = [reader.scan(first, cut, payees), reader.scan(cut + 1, last, payees)]
            assert [t for part in parts for t in part.transfers] == list(whole.transfers)
        some = reader.scan(first, last, payees[1:])
        assert some.transfers == whole.transfers[1:]
        assert reader.scan(first, last, []).transfers == ()

    def test_a_scan_names_the_blocks_that_it_read(self, lab: Lab, reader: ChainReader) -> None:
        payee = lab.new_address()
        lab.pay(Payment(payee, UNITS))
        settle(lab)
        lab.mine(10)
        last = reader.head().latest.number
        first = max(0, last - assets.registry().chains[lab.chain].scan_blocks_max + 1)
        for addresses in ([payee], [lab.new_address()], []):
            found = reader.scan(first, last, addresses)
            numbers = [block.number for block in found.blocks]
            assert {block.number: block for block in found.blocks} == reader.blocks(numbers)
            assert numbers == sorted(numbers) and numbers[-1] == last
            assert {t.block_number for t in found.transfers} <= set(numbers)
            if not final_only(lab):
                assert numbers == list(range(first, last + 1))

    def test_a_scan_finds_an_address_however_it_is_spelled(self, lab: Lab, reader: ChainReader) -> None:
        payee = lab.new_address()
        settle(lab)
        first = reader.head().latest.number + 1
        lab.pay(Payment(payee, UNITS))
        settle(lab)
        last = reader.head().latest.number
        for spelling in {payee.lower(), payee.upper(), "0x" + payee.removeprefix("0x").upper()}:
            try:
                canonical = formats.parse_address(lab.chain, spelling)
            except InvalidRequestError:
                continue
            if canonical == payee:
                assert [t.recipient for t in scan(reader, first, last, [spelling])[1]] == [payee]

    def test_a_range_that_can_not_be_read_is_refused(self, lab: Lab, reader: ChainReader) -> None:
        settle(lab)
        last, most = reader.head().latest.number, assets.registry().chains[lab.chain].scan_blocks_max
        with pytest.raises(ValueError, match=f"at most {most}"):
            reader.scan(last, last + most, [])
        with pytest.raises(ValueError, match="blocks"):
            reader.scan(last, last - 1, [])
        with pytest.raises(TransientError):
            reader.scan(last, last + 1, [lab.new_address()])


class TestReorg:
    def test_what_a_reorg_took_away_is_no_longer_told(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "reorg")
        payee = lab.new_address()
        chain_tx = lab.pay(Payment(payee, UNITS))
        lab.mine()
        before = read(reader, chain_tx)
        assert before.block_number is not None
        depth = reader.head().latest.number - before.block_number + 1
        lab.undo(depth)
        assert read(reader, chain_tx).status in (TxStatus.MISSING, TxStatus.MEMPOOL)
        assert reader.blocks([before.block_number])[before.block_number].hash != before.block_hash
        assert reader.scan(before.block_number, before.block_number, [payee]).transfers == ()

    def test_what_comes_back_is_in_another_block(self, lab: Lab, reader: ChainReader) -> None:
        need(lab, "reorg")
        payee = lab.new_address()
        chain_tx = lab.pay(Payment(payee, UNITS))
        lab.mine(2)
        before = read(reader, chain_tx)
        assert before.block_number is not None
        lab.undo(reader.head().latest.number - before.block_number + 1, keep=[chain_tx])
        after = read(reader, chain_tx)
        assert after.status is TxStatus.SUCCEEDED and after.block_hash != before.block_hash
        assert [(t.index, t.units) for t in to(payee, after.transfers)] == [
            (t.index, t.units) for t in to(payee, before.transfers)
        ]


class TestNodes:
    def test_one_endpoint_is_no_two_witnesses(self, lab: Lab, reader: ChainReader) -> None:
        chain_tx = lab.pay(Payment(lab.new_address(), UNITS))
        settle(lab)
        with pytest.raises(TransientError):
            reader.agreed([chain_tx])

    def test_an_endpoint_is_named_by_its_host(self, lab: Lab, reader: ChainReader) -> None:
        reader.head()
        (node,) = reader.nodes()
        assert node.label and not any(node.label in (url, url.rstrip("/")) for url in lab.urls())

    def test_facts_can_not_be_changed(self, reader: ChainReader) -> None:
        with pytest.raises(FrozenInstanceError):
            reader.head().latest.number = 0  # type: ignore[misc]
