"""Payouts on Solana: built by the sender, signed by the signer, run by the real virtual machine, read by the reader."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from chains.base import TxStatus
from chains.sending import OrderRefusedError, Reception, Version
from chains.solana.payments import LIFE, OPENING_LAMPORTS_MAX, reference_key
from chains.solana.sender import SolanaSender
from chains.solana.transfers import associated
from core.errors import TransientError
from local.solana_dev import Mint, SolanaDev
from local.solana_node import SolanaNode
from signer.solana import SolanaSigner
from tests.support.evm import changing, proxy
from tests.support.solana import asset_of, reader_of, settled, to
from tests.support.solana_paying import RICH, WALLET, Desk


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with SolanaNode() as node, SolanaDev(node.url) as dev:
        desk = Desk(dev, dev.new_mint(), dev.new_mint(fee_bps=0))
        dev.rpc("devSetLamports", WALLET, RICH)
        for mint in (desk.coin, desk.coin_2022):
            dev.pay_token(mint, WALLET, 10**9)
        dev.mine(4)
        yield desk


def to_the_end(desk: Desk, version: Version) -> None:
    """Until its last block is final, and no more."""
    ends = version.terms.ends
    assert ends is not None
    desk.dev.mine(ends - int(desk.dev.rpc("getBlockHeight")))


class TestPaying:
    def test_coins_arrive_with_their_memo_and_cost_what_was_said(self, desk: Desk) -> None:
        recipient, before = desk.dev.new_address(), desk.lamports()
        order = desk.order(recipient, 5_000, tag="user-77")
        version = desk.sent(order)
        settled(desk.dev)
        tx = reader_of(desk.dev).chain_txs([version.chain_tx])[version.chain_tx]
        (moved,) = to(tx, recipient)
        assert (moved.sender, moved.units, moved.asset) == (WALLET, 5_000, desk.native)
        assert moved.tags == ("user-77", str(reference_key(order.reference)))
        cost = desk.sender().costs([version.chain_tx])[version.chain_tx]
        assert before - desk.lamports() == 5_000 + cost
        assert 5_000 < cost <= version.terms.fee_max < 10_000
        assert [line["signature"] for line in desk.dev.rpc("getSignaturesForAddress", str(moved.tags[1]))] == [tx.id]

    @pytest.mark.parametrize("kind", ["coin", "coin_2022"])
    def test_tokens_arrive_and_a_missing_account_is_opened_once(self, desk: Desk, kind: str) -> None:
        mint: Mint = getattr(desk, kind)
        recipient, sender, before = str(Keypair().pubkey()), desk.sender(), desk.lamports()
        opening = desk.sent(desk.order(recipient, 30, mint, tag="m"))
        settled(desk.dev)
        plain = desk.sent(desk.order(recipient, 12, mint, tag="m"))
        settled(desk.dev)
        reader = reader_of(desk.dev, mint)
        told = reader.chain_txs([opening.chain_tx, plain.chain_tx])
        assert [[part.units for part in to(tx, recipient)] for tx in told.values()] == [[30], [12]]
        assert sender.balance(recipient, asset_of(desk.dev, mint)) == 42
        costs = sender.costs(list(told))
        rent = desk.dev.rpc("getBalance", associated(recipient, str(mint.address), str(mint.program)))["value"]
        assert costs[opening.chain_tx] - costs[plain.chain_tx] == pytest.approx(rent, abs=1_000)
        assert rent > 2_000_000 and opening.terms.fee_max - plain.terms.fee_max >= OPENING_LAMPORTS_MAX
        assert all(costs[one.chain_tx] <= one.terms.fee_max for one in (opening, plain))
        assert before - desk.lamports() == sum(costs.values())

    def test_two_orders_that_are_alike_are_two_payments(self, desk: Desk) -> None:
        recipient = desk.dev.new_address()
        versions = [desk.version(desk.order(recipient, 9)) for _ in range(2)]
        assert versions[0].terms.fields["blockhash"] == versions[1].terms.fields["blockhash"]
        for version in versions:
            desk.sender().broadcast(version)
        settled(desk.dev)
        told = reader_of(desk.dev).chain_txs([one.chain_tx for one in versions])
        assert [tx.status for tx in told.values()] == [TxStatus.SUCCEEDED] * 2

    def test_what_fails_in_its_block_costs_its_fee(self, desk: Desk) -> None:
        """Two orders that each find enough: no terms know of the other."""
        poor = hashlib.sha256(b"poor").digest()
        wallet = SolanaSigner().address("", poor)
        desk.dev.rpc("devSetLamports", wallet, 10_000_000)
        sender, versions = desk.sender(), []
        for _ in range(2):
            order = replace(desk.order(desk.dev.new_address(), 8_000_000), wallet=wallet)
            terms = sender.terms(order, reserved=())
            signed = SolanaSigner().build(poor, order, terms)
            versions.append(Version(number=1, terms=terms, chain_tx=signed.chain_tx, raw=signed.raw))
            assert sender.broadcast(versions[-1]).reception is Reception.TAKEN
        settled(desk.dev)
        paid, failed = (one.chain_tx for one in versions)
        assert reader_of(desk.dev).chain_txs([failed])[failed].status is TxStatus.REVERTED
        costs = sender.costs([paid, failed])
        assert costs[paid] == costs[failed] > 5_000 and not sender.dead(versions[1:])
        assert sender.balance(wallet, desk.native) == 2_000_000 - 2 * costs[paid]


class TestRefusals:
    """Before anything is signed."""

    def test_too_little(self, desk: Desk) -> None:
        address = desk.dev.new_address()
        assert desk.refused(desk.order(address, RICH)) == "funds"
        assert desk.refused(desk.order(address, 10**12, desk.coin)) == "funds"
        exact = str(Keypair().pubkey())
        desk.dev.rpc("devSetLamports", exact, 8_005_000)  # enough, did it bid nothing
        assert desk.refused(replace(desk.order(address, 8_000_000), wallet=exact)) == "funds"
        assert desk.refused(replace(desk.order(address, 1), wallet=str(Keypair().pubkey()))) == "funds"
        bare = str(Keypair().pubkey())
        desk.dev.rpc("devSetLamports", bare, 2_000_000)
        desk.dev.pay_token(desk.coin, bare, 5)
        settled(desk.dev)
        order = replace(desk.order(str(Keypair().pubkey()), 5, desk.coin), wallet=bare)
        assert desk.refused(order) == "funds"  # it has the tokens, and not the rent of the account to be opened

    def test_recipients_that_can_not_take_it(self, desk: Desk) -> None:
        assert desk.refused(desk.order(str(Keypair().pubkey()), 5)) == "destination"  # less than a new account's rent
        assert desk.refused(desk.order(WALLET, 5)) == "destination"
        assert desk.refused(desk.order(str(desk.coin.account_of(WALLET)), 5, desk.coin)) == "destination"
        mint = str(desk.coin.address)  # a key's address, as a mint begins with
        assert desk.refused(desk.order(mint, 10**7)) == "destination"
        assert desk.refused(desk.order(mint, 5, desk.coin)) == "destination"
        assert desk.refused(desk.order(desk.dev.new_address(), 5, tag=" a\n")) == "destination"

    def test_a_token_account_that_was_given_away_or_frozen(self, desk: Desk) -> None:
        recipient = desk.dev.new_address()
        desk.dev.pay_token(desk.coin, recipient, 5)
        settled(desk.dev)
        order = desk.order(recipient, 5, desk.coin)

        def changed(at: int, content: bytes) -> Callable[[Any, Any], Any]:
            def change(result: Any) -> Any:
                for row in result["value"]:
                    data = bytearray(base64.b64decode(row["data"][0]) if row else b"")
                    if len(data) == 165 and bytes(data[32:64]) == bytes(Pubkey.from_string(recipient)):
                        data[at : at + len(content)] = content
                        row["data"][0] = base64.b64encode(data).decode()
                return result

            return changing("getMultipleAccounts", change)

        for change, why in ((changed(32, bytes(32)), "somebody else's"), (changed(108, b"\x02"), "frozen")):
            with proxy(desk.dev.url, change) as node, pytest.raises(OrderRefusedError, match=why) as error:
                desk.sender(node.url).terms(order, reserved=())
            assert error.value.what == "destination"
        assert desk.sender().terms(order, reserved=()).fields["opens"] is False

    def test_a_token_that_takes_a_fee(self, desk: Desk) -> None:
        taking = desk.dev.new_mint(fee_bps=100)
        other = Desk(desk.dev, taking, desk.coin_2022)
        assert other.refused(other.order(desk.dev.new_address(), 5, taking)) == "order"
        assert desk.refused(other.order(desk.dev.new_address(), 5, taking)) == "order"  # not in the registry


class TestBroadcasting:
    def test_any_number_of_times(self, desk: Desk) -> None:
        version = desk.sent(desk.order(desk.dev.new_address(), 5))
        assert desk.sender().broadcast(version).reception is Reception.TAKEN  # it waits
        settled(desk.dev)
        assert desk.sender().broadcast(version).reception is Reception.TAKEN  # it is in a block
        to_the_end(desk, version)
        assert desk.sender().broadcast(version).reception is Reception.LATE

    def test_the_loss_of_a_node_is_none(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        down = "http://localhost:1/SECRETKEY123"
        assert desk.sender(down, desk.dev.url).broadcast(version).reception is Reception.TAKEN
        with pytest.raises(TransientError) as error:
            desk.sender(down).broadcast(version)
        assert "SECRETKEY" not in str(error.value)

    def test_a_refusal_is_told_in_the_nodes_words(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        broken = replace(version, raw=version.raw[:-2] + ("00" if version.raw[-2:] != "00" else "01"))
        told = desk.sender().broadcast(broken)
        assert told.reception is Reception.REFUSED and "signature verification" in (told.why or "")

    def test_a_node_that_is_behind_has_not_answered(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        ahead = replace(version.terms, fields=dict(version.terms.fields) | {"slot": str(10**9)})
        with pytest.raises(TransientError):
            desk.sender().broadcast(replace(version, terms=ahead))


class TestDeath:
    def test_only_final_blocks_past_its_end_prove_it(self, desk: Desk) -> None:
        version = desk.sent(desk.order(desk.dev.new_address(), 5))
        desk.dev.drop(version.chain_tx)
        told = desk.dev.rpc("getLatestBlockhash")["value"]
        assert version.terms.ends == told["lastValidBlockHeight"] + 2 and version.terms.inputs == ()
        assert version.terms.ends == int(desk.dev.rpc("getBlockHeight")) + LIFE  # of the newest final block
        to_the_end(desk, version)
        assert desk.dev.rpc("getBlockHeight", {"commitment": "processed"}) == version.terms.ends + 2
        assert desk.sender().dead([version])

    def test_it_is_not_while_a_block_may_take_it(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        sender = desk.sender()
        assert not sender.dead([version])
        to_the_end(desk, version)
        assert sender.dead([version])
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        ends = version.terms.ends or 0
        desk.dev.mine(ends - int(desk.dev.rpc("getBlockHeight")) - 1)  # the head is past its end, the final one isn't
        assert desk.dev.rpc("getBlockHeight", {"commitment": "processed"}) > ends and not sender.dead([version])
        desk.dev.mine()
        assert sender.dead([version])

    def test_landed_in_the_last_block_that_takes_it(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        height = int(desk.dev.rpc("getBlockHeight", {"commitment": "processed"}))
        desk.dev.mine((version.terms.ends or 0) - LIFE + 149 - height)
        assert desk.sender().broadcast(version).reception is Reception.TAKEN
        desk.dev.mine(10)
        assert not desk.sender().dead([version])
        tx = reader_of(desk.dev).chain_txs([version.chain_tx])[version.chain_tx]
        assert tx.status is TxStatus.SUCCEEDED

    def test_skipped_slots_are_no_blocks(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        desk.dev.skip(200)
        desk.dev.mine(5)
        desk.dev.skip(30)
        assert not desk.sender().dead([version])
        to_the_end(desk, version)
        assert desk.sender().dead([version])


def hiding(chain_tx: str) -> Callable[[Any], Any]:
    """As a node that has no such entry in its index answers getSignatureStatuses."""
    return lambda result: result | {"value": [None]}


class TestNodesThatProveNothing:
    """Of a payment that is final, each in its own way unaware of it; and that of two hosts one is not enough."""

    @pytest.fixture
    def landed(self, desk: Desk) -> Version:
        version = desk.sent(desk.order(desk.dev.new_address(), 5))
        to_the_end(desk, version)
        return version

    def test_an_index_that_lacks_it(self, desk: Desk, landed: Version) -> None:
        with proxy(desk.dev.url, changing("getSignatureStatuses", hiding(landed.chain_tx))) as node:
            assert not desk.sender(node.url).dead([landed])
        assert "getBlock" in node.methods  # which shows it

    @pytest.mark.parametrize("code", [-32001, -32007, -32011])
    def test_blocks_that_are_not_kept(self, desk: Desk, landed: Version, code: int) -> None:
        """Cleaned up, lost when it started from a snapshot, or never kept."""
        slot = reader_of(desk.dev).chain_txs([landed.chain_tx])[landed.chain_tx].block_number

        def without(body: Any, answers: Any) -> Any:
            lacking = [
                (call["method"] == "getBlock" and call["params"][0] == slot) or call["method"] == "getSignatureStatuses"
                for call in body
            ]
            return [
                hide(call, answer, code) if lacks else answer
                for call, answer, lacks in zip(body, answers, lacking, strict=True)
            ]

        with proxy(desk.dev.url, without) as node, pytest.raises(TransientError):
            desk.sender(node.url).dead([landed])

    def test_a_block_that_is_called_skipped(self, desk: Desk, landed: Version) -> None:
        slot = reader_of(desk.dev).chain_txs([landed.chain_tx])[landed.chain_tx].block_number

        def change(body: Any, answers: Any) -> Any:
            for call, answer in zip(body, answers, strict=True):
                if call["method"] == "getBlocksWithLimit":
                    limit = call["params"][1]
                    every = desk.dev.rpc("getBlocksWithLimit", call["params"][0], limit + 1, call["params"][2])
                    answer["result"] = [each for each in every if each != slot]
            return changing("getSignatureStatuses", hiding(landed.chain_tx))(body, answers)

        desk.dev.mine()
        with proxy(desk.dev.url, change) as node, pytest.raises(TransientError, match="does not follow"):
            desk.sender(node.url).dead([landed])

    def test_a_node_that_stands_still(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        to_the_end(desk, version)
        still = changing("getBlocksWithLimit", lambda slots: slots[:-1])
        with proxy(desk.dev.url, still) as node:
            second = node.url.replace("127.0.0.1", "localhost")
            assert not desk.sender(node.url).dead([version])
            assert not desk.sender(desk.dev.url, second).dead([version])
            assert desk.sender(desk.dev.url, desk.dev.url.replace("127.0.0.1", "localhost")).dead([version])

    def test_one_host_of_two_is_not_enough_and_is_not_read_again_for_the_other(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        to_the_end(desk, version)
        with proxy(desk.dev.url) as node:
            sender = desk.sender(node.url, "http://localhost:1")
            assert [sender.dead([version]) for _ in range(2)] == [False, False]
        assert node.methods.count("getBlocksWithLimit") == 1
        assert desk.sender(desk.dev.url, desk.dev.url + "/again").dead([version])

    def test_a_hash_that_the_bank_still_knows_or_that_is_another_blocks(self, desk: Desk) -> None:
        version = desk.version(desk.order(desk.dev.new_address(), 5))
        to_the_end(desk, version)
        longer = changing("isBlockhashValid", lambda result: result | {"value": True})
        with proxy(desk.dev.url, longer) as node:
            assert not desk.sender(node.url).dead([version])
        slot = int(version.terms.fields["slot"]) - 1
        earlier = replace(version.terms, fields=dict(version.terms.fields) | {"slot": str(slot)})
        with pytest.raises(TransientError, match="another hash"):
            desk.sender().dead([replace(version, terms=earlier)])


def hide(call: Any, answer: Any, code: int) -> Any:
    if call["method"] == "getSignatureStatuses":
        return answer | {"result": answer["result"] | {"value": [None]}}
    return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": code, "message": "not kept"}}


GARBAGE: list[Any] = [None, -1, {}, [[]], {"value": None}, {"value": [None]}]


def test_garbage_is_a_failure_of_the_node(desk: Desk) -> None:
    """In place of any one answer. What may be so (no account, no such transaction, no bid) is believed."""
    order = desk.order(str(Keypair().pubkey()), 5, desk.coin)
    version, never = desk.sent(order), desk.version(replace(order, reference="never"))
    settled(desk.dev)
    to_the_end(desk, never)
    waiting = desk.version(replace(order, reference="waiting"))
    asks: dict[str, Callable[[SolanaSender], Any]] = {
        "terms": lambda sender: sender.terms(order, reserved=()),
        "broadcast": lambda sender: sender.broadcast(waiting),
        "costs": lambda sender: sender.costs([version.chain_tx]),
        "balance": lambda sender: sender.balance(WALLET, order.asset),
        "dead": lambda sender: sender.dead([never]),
    }
    believed = {
        ("costs", "getTransaction", "None"),
        ("terms", "getRecentPrioritizationFees", "[]"),
        ("dead", "getSignatureStatuses", "{'value': [None]}"),
    }
    at: dict[str, Any] = {"method": "", "garbage": None}

    def change(body: Any, answers: Any) -> Any:
        return changing(at["method"], lambda _: at["garbage"])(body, answers)

    with proxy(desk.dev.url, change) as node:
        for name, ask in asks.items():
            at["method"] = ""
            seen, sender = len(node.bodies), desk.sender(node.url)
            ask(sender)
            methods = {call["method"] for body in node.bodies[seen:] for call in body} - {"getGenesisHash"}
            for at["method"] in sorted(methods):
                for at["garbage"] in GARBAGE:
                    if (name, at["method"], repr(at["garbage"])) in believed:
                        continue
                    told: Any = None
                    with suppress(TransientError):
                        told = ask(desk.sender(node.url) if name == "dead" else sender)
                    assert told is None or told is False, (name, at, told)


def test_the_price_follows_the_network_within_bounds(desk: Desk) -> None:
    def price(paid: Sequence[int]) -> str:
        rows = [{"slot": number, "prioritizationFee": fee} for number, fee in enumerate(paid)]
        with proxy(desk.dev.url, changing("getRecentPrioritizationFees", lambda _: rows)) as node:
            terms = desk.sender(node.url).terms(desk.order(desk.dev.new_address(), 5), reserved=())
        asked = next(call for body in node.bodies for call in body if "Prioritization" in call["method"])
        assert WALLET in asked["params"][0]
        return str(terms.fields["unit_price"])

    assert price([]) == "10000"
    assert price([10**6] * 4 + [0] * 2 + [10**9]) == "1000000"
    assert price([10**15] * 3) == "5000000"


def test_a_rent_that_has_risen_is_not_paid(desk: Desk) -> None:
    with (
        proxy(desk.dev.url, changing("getMinimumBalanceForRentExemption", lambda rent: rent + 1)) as node,
        pytest.raises(OrderRefusedError, match="rent"),
    ):
        desk.sender(node.url).terms(desk.order(str(Keypair().pubkey()), 5, desk.coin), reserved=())
