"""A version is dead when somebody else's use of its nonce is shown, and never because it isn't found."""

from collections.abc import Callable
from typing import Any

import pytest

from chains.evm.sender import EvmSender
from chains.sending import Reception, Version
from local.anvil import Anvil
from local.devchain import DevChain
from tests.support.evm import changing, proxy
from tests.support.evm_sending import FINAL_AFTER, ONE, OTHER, Wallet, refusing, sender_of


def pruned(before: int) -> Callable[[Any, Any], Any]:
    """For `proxy`: a node that has no state of older blocks."""

    def forgotten(call: Any) -> bool:
        counts, tag = call["method"] == "eth_getTransactionCount", call["params"][-1:]
        return counts and tag[0].startswith("0x") and int(tag[0], 16) < before

    return refusing(forgotten)


def forging(chain_tx: str, *, receipts: bool = True) -> Callable[[Any, Any], Any]:
    """For `proxy`: in its block it has another hash, and no receipt is known."""

    def change(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call["method"] for call in body}
        for answer in answers:
            if asked[answer["id"]] == "eth_getTransactionReceipt" and receipts:
                answer["result"] = None
            elif asked[answer["id"]] == "eth_getBlockByNumber":
                for tx in answer["result"]["transactions"]:
                    if isinstance(tx, dict) and tx["hash"] == chain_tx:
                        tx["hash"] = "0x" + "cd" * 32
        return answers

    return change


class TestDead:
    @pytest.fixture
    def replaced(self, chain: DevChain, sender: EvmSender, wallet: Wallet) -> Version:
        """A version whose nonce somebody else has used, in the newest block."""
        version = wallet.first(sender, wallet.order(chain.new_account(), 600))
        with chain.no_mining():
            for nonce in range(2):
                wallet.elsewhere(chain, nonce)
            assert not sender.dead([version])
            chain.mine()
        assert sender.broadcast(version).reception is Reception.LATE
        return version

    @pytest.fixture
    def paid(self, chain: DevChain, sender: EvmSender, wallet: Wallet) -> Version:
        """A version that is in a final block."""
        version = wallet.first(sender, wallet.order(chain.new_account(), 600))
        assert sender.broadcast(version).reception is Reception.TAKEN
        chain.wait_mined(version.chain_tx)
        chain.mine(FINAL_AFTER + 1)
        return version

    def test_only_when_the_foreign_one_is_final(self, chain: DevChain, sender: EvmSender, replaced: Version) -> None:
        seen = []
        for _ in range(FINAL_AFTER + 1):
            seen.append(sender.dead([replaced]))
            chain.mine()
        assert seen == [False] * FINAL_AFTER + [True]
        assert sender.costs([replaced.chain_tx]) == {}

    def test_it_is_found_far_back_in_few_requests(self, chain: DevChain, node: Anvil, replaced: Version) -> None:
        chain.mine(300)
        with proxy(node.url) as seen:
            assert sender_of(seen.url).dead([replaced])
            assert len(seen.bodies) < 10

    def test_a_receipt_that_a_node_has_lost_proves_nothing(self, chain: DevChain, node: Anvil, paid: Version) -> None:
        # All of the hosts have: pruned, indexing, or a bug of the node's.
        lost = changing("eth_getTransactionReceipt", lambda _: None)
        with proxy(node.url, lost) as one, proxy(node.url, lost) as other:
            assert not sender_of(one.url).dead([paid])
            assert not sender_of(one.url, other.url.replace(ONE, OTHER)).dead([paid])

    @pytest.mark.parametrize("liar_first", [True, False])
    def test_one_host_that_makes_up_a_foreign_one_is_not_enough(
        self, node: Anvil, paid: Version, liar_first: bool
    ) -> None:
        with proxy(node.url, forging(paid.chain_tx)) as liar, proxy(node.url) as honest:
            assert sender_of(liar.url).dead([paid])  # alone it is believed: the test's lie is a good one
            urls = [liar.url, honest.url.replace(ONE, OTHER)]
            assert not sender_of(*(urls if liar_first else reversed(urls))).dead([paid])
        with proxy(node.url, forging(paid.chain_tx, receipts=False)) as liar:
            assert not sender_of(liar.url).dead([paid])  # it contradicts itself

    def test_both_hosts_must_have_come_so_far(self, chain: DevChain, node: Anvil, replaced: Version) -> None:
        chain.mine(FINAL_AFTER)
        behind = [True]

        def lag(body: Any, answers: Any) -> Any:
            tags = {call["id"]: call["params"][0] for call in body if call["method"] == "eth_getBlockByNumber"}
            for answer in answers if behind[0] else ():
                if tags.get(answer["id"]) in ("latest", "finalized"):
                    answer["result"]["number"] = "0x1"
            return answers

        with proxy(node.url, lag) as late:
            pair = sender_of(node.url, late.url.replace(ONE, OTHER))
            assert not pair.dead([replaced])
            behind[0] = False
            assert pair.dead([replaced])

    def test_without_the_second_host_nothing_is_proven(self, chain: DevChain, node: Anvil, replaced: Version) -> None:
        chain.mine(FINAL_AFTER)
        assert sender_of(node.url).dead([replaced])
        assert not sender_of(node.url, f"http://{OTHER}:1").dead([replaced])

    def test_one_node_that_remembers_is_enough_to_know_where_to_look(
        self, chain: DevChain, node: Anvil, replaced: Version
    ) -> None:
        here = chain.mine(40)
        with proxy(node.url, pruned(before=here - 30)) as full:
            assert not sender_of(full.url).dead([replaced])
            other = full.url.replace(ONE, OTHER)
            assert sender_of(other, node.url).dead([replaced])
        with proxy(node.url, pruned(before=here - 45)) as full:
            assert sender_of(full.url).dead([replaced])  # asked in time

    def test_a_nonce_that_was_used_by_no_transaction_stays_for_people(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet
    ) -> None:
        version = wallet.first(sender, wallet.order(chain.new_account(), 600))
        chain.mine()
        chain.rpc("anvil_setNonce", wallet.address, "0x1")  # as by a delegation (EIP-7702)
        chain.mine(FINAL_AFTER + 1)
        assert sender.broadcast(version).reception is Reception.LATE
        assert not sender.dead([version])

    def test_what_a_cancellation_outbid_is_dead_whatever_the_nodes_have_forgotten(
        self, chain: DevChain, wallet: Wallet
    ) -> None:
        with proxy(chain.url, pruned(before=2**40)) as full:
            sender, order = sender_of(full.url), wallet.order(chain.new_account(), 600)
            paying = wallet.first(sender, order)
            terms = sender.cancelling(order, [paying])
            assert terms is not None
            cancel = wallet.sign(order, terms, 2)
            sender.broadcast(cancel)
            chain.wait_mined(cancel.chain_tx)
            assert sender.costs([cancel.chain_tx]).keys() == {cancel.chain_tx}
            assert not sender.dead([paying])  # its block is not final yet
            chain.mine(FINAL_AFTER)
            assert sender.dead([paying])
            assert not sender.dead([cancel]) and not sender.dead([paying, cancel])
            assert not sender_of(full.url).dead([paying])  # a process that was not told where to look

    def test_a_place_that_a_reorg_has_moved_is_searched_anew(
        self, chain: DevChain, sender: EvmSender, wallet: Wallet
    ) -> None:
        version = wallet.first(sender, wallet.order(chain.new_account(), 600))
        with chain.no_mining():
            sender.broadcast(version)
            chain.mine()
            assert sender.costs([version.chain_tx])
            chain.reorg(1)
            chain.mine()
            wallet.elsewhere(chain, 0)
            chain.mine(FINAL_AFTER + 1)
        assert sender.dead([version])
