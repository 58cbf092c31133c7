"""What a transaction is said to be, on a real node."""

from typing import Any

import pytest

from chains.base import NATIVE_INDEX, ChainTx, TxStatus
from chains.errors import RefusedError
from chains.evm.reader import EvmReader
from local.devchain import DevChain
from tests.support.evm import CHAIN, COIN, MakeReader, Token, changing, proxy

pytest_plugins = ["tests.support.evm_fixtures"]

ETHER = 10**18
NEVER = "0x" + "ab" * 32


def read(reader: EvmReader, chain_tx: str) -> ChainTx:
    return reader.chain_txs([chain_tx])[chain_tx]


def test_a_payment_in_the_own_coin(dev_chain: DevChain, reader: EvmReader) -> None:
    payer, payee = dev_chain.new_account(units=ETHER), dev_chain.new_account()
    found = read(reader, dev_chain.send(payee, 12_345, sender=payer))
    assert (found.status, found.sender, found.inputs) == (TxStatus.SUCCEEDED, payer, (f"{payer}/0",))
    assert found.block_number == dev_chain.height and found.block_hash == reader.head().latest.hash
    (transfer,) = found.transfers
    assert (transfer.chain, transfer.chain_tx, transfer.index) == (CHAIN, found.id, NATIVE_INDEX)
    assert (transfer.asset, transfer.contract) == (COIN, None)
    assert (transfer.sender, transfer.recipient, transfer.units) == (payer, payee, 12_345)
    assert (transfer.block_number, transfer.block_hash) == (found.block_number, found.block_hash)


def test_a_payment_in_a_token(dev_chain: DevChain, reader: EvmReader, token: Token) -> None:
    payee = dev_chain.new_account()
    call, transfer = read(reader, dev_chain.send_token(token.address, payee, 7_000_000)).transfers
    assert (call.units, call.recipient, call.asset) == (0, token.address, COIN)  # the call itself carries no coin
    assert (transfer.asset, transfer.contract, transfer.index) == (token.asset, token.address.lower(), 0)
    assert (transfer.sender, transfer.recipient, transfer.units) == (dev_chain.accounts[0], payee, 7_000_000)


def test_each_of_several_transfers_in_one_transaction_has_its_own_index(
    dev_chain: DevChain, reader: EvmReader, token: Token, emitter: str
) -> None:
    payees = [dev_chain.new_account() for _ in range(3)]
    dev_chain.send_token(token.address, emitter, 30)
    found = read(reader, dev_chain.transact(emitter, "spread(address,address[],uint256)", token.address, payees, 10))
    tokens = [transfer for transfer in found.transfers if transfer.contract]
    assert [(t.index, t.recipient, t.units, t.asset) for t in tokens] == [
        (index, payee, 10, token.asset) for index, payee in enumerate(payees)
    ]


def test_zero_value_is_reported_as_it_is(dev_chain: DevChain, reader: EvmReader, token: Token) -> None:
    payee = dev_chain.new_account()
    assert [t.units for t in read(reader, dev_chain.send(payee, 0)).transfers] == [0]
    assert [t.units for t in read(reader, dev_chain.send_token(token.address, payee, 0)).transfers] == [0, 0]


def test_a_reverted_transaction_moves_nothing_whatever_its_fields_say(
    dev_chain: DevChain, reader: EvmReader, token: Token, emitter: str
) -> None:
    poor = dev_chain.new_account(units=ETHER)
    for chain_tx in (
        dev_chain.transact(emitter, "fail()", units=5),
        dev_chain.send_token(token.address, dev_chain.new_account(), 5, sender=poor),
    ):
        found = read(reader, chain_tx)
        assert found.status is TxStatus.REVERTED and found.transfers == ()
        assert found.block_number is not None


def test_the_creation_of_a_contract_pays_nobody(dev_chain: DevChain, reader: EvmReader) -> None:
    dev_chain.deploy("Emitter")
    block = dev_chain.rpc("eth_getBlockByNumber", "latest", False)
    found = read(reader, block["transactions"][0])
    assert found.status is TxStatus.SUCCEEDED and found.transfers == ()


def test_an_unknown_transaction_is_missing(reader: EvmReader) -> None:
    assert read(reader, NEVER) == ChainTx(id=NEVER, status=TxStatus.MISSING)


def test_one_transaction_has_one_id_however_it_is_spelled(dev_chain: DevChain, reader: EvmReader) -> None:
    chain_tx = dev_chain.send(dev_chain.new_account(), 1)
    spellings = [chain_tx, chain_tx[2:], "0x" + chain_tx[2:].upper()]
    found = reader.chain_txs(spellings)
    assert list(found) == spellings
    assert {tx.id for tx in found.values()} == {chain_tx}


def test_a_waiting_transaction_proves_nothing_and_may_be_dropped(dev_chain: DevChain, reader: EvmReader) -> None:
    with dev_chain.no_mining():
        payer = dev_chain.new_account(units=ETHER)
        chain_tx = dev_chain.send(dev_chain.new_account(), 5, sender=payer)
        assert read(reader, chain_tx) == ChainTx(chain_tx, TxStatus.MEMPOOL, payer, (f"{payer}/0",))
        dev_chain.drop(chain_tx)
        assert read(reader, chain_tx).status is TxStatus.MISSING


def test_a_replaced_transaction_is_told_by_its_senders_nonce(dev_chain: DevChain, reader: EvmReader) -> None:
    payer, payee = dev_chain.new_account(units=ETHER), dev_chain.new_account()
    with dev_chain.no_mining():
        chain_tx = dev_chain.send(payee, 5, sender=payer)
        mine = read(reader, chain_tx).inputs
        assert mine == (f"{payer}/0",) and reader.spent(mine) == frozenset()
        before = dev_chain.height
        other = dev_chain.replace(chain_tx)
        assert reader.spent(mine) == frozenset()
        dev_chain.mine()
    assert read(reader, chain_tx).status is TxStatus.MISSING
    assert read(reader, other).inputs == mine
    asked = [*mine, f"{payer}/1", f"{payer.lower()}/0", f"{payee}/0"]
    assert reader.spent(asked) == {mine[0], f"{payer.lower()}/0"}
    assert reader.spent(asked, block=before) == frozenset()


def test_a_node_that_has_forgotten_a_block_does_not_tell_of_the_head(
    dev_chain: DevChain, make_evm_reader: MakeReader
) -> None:
    """It would call a transaction replaced although a reorg may still undo what replaced it."""
    payer = dev_chain.new_account(units=ETHER)
    before = dev_chain.height
    dev_chain.send(dev_chain.new_account(), 5, sender=payer)

    def forgetful(body: Any, answers: Any) -> Any:
        error = {"code": -32000, "message": "missing trie node"}
        old = {call["id"] for call in body if call["params"][1:] == [hex(before)]}
        return [{"id": a["id"], "error": error} if a["id"] in old else a for a in answers]

    with proxy(dev_chain.url, forgetful) as node:
        with pytest.raises(RefusedError, match="missing trie node"):
            make_evm_reader(node.url).spent([f"{payer}/0"], block=before)
        archive = make_evm_reader(node.url, dev_chain.url)
        assert archive.spent([f"{payer}/0"], block=before) == frozenset(), "the next endpoint remembers it"
        assert archive.spent([f"{payer}/0"]) == {f"{payer}/0"}


@pytest.mark.parametrize("text", ["", "7", "0x12/7", f"0x{'11' * 20}/", f"0x{'11' * 20}/-1", f"0x{'11' * 20}/1\n"])
def test_what_is_no_input_is_refused(reader: EvmReader, text: str) -> None:
    with pytest.raises(ValueError, match="no sender and nonce"):
        reader.spent([text])


def test_a_reorg_takes_a_transaction_away_and_may_bring_it_back_in_another_block(
    dev_chain: DevChain, reader: EvmReader
) -> None:
    payee = dev_chain.new_account()
    chain_tx = dev_chain.send(payee, 5, sender=dev_chain.accounts[1])
    raw = dev_chain.rpc("eth_getRawTransactionByHash", chain_tx)
    first = read(reader, chain_tx)
    dev_chain.mine(2)
    dev_chain.reorg(3)
    assert read(reader, chain_tx).status is TxStatus.MISSING
    dev_chain.rpc("eth_sendRawTransaction", raw)
    dev_chain.wait_mined(chain_tx)
    second = read(reader, chain_tx)
    assert second.status is TxStatus.SUCCEEDED
    assert second.block_number != first.block_number and second.block_hash != first.block_hash

    dev_chain.mine(1)
    dev_chain.reorg(2, keep=[(chain_tx, 1)])
    third = read(reader, chain_tx)
    assert third.block_number == dev_chain.height and third.block_hash not in (first.block_hash, second.block_hash)
    assert dev_chain.balance(payee) == 5


def test_a_forged_event_of_an_unknown_contract_is_no_asset(
    dev_chain: DevChain, reader: EvmReader, emitter: str
) -> None:
    victim, payee = dev_chain.new_account(), dev_chain.new_account()
    forged = read(reader, dev_chain.transact(emitter, "forge(address,address,uint256)", victim, payee, 10**12))
    (claim,) = [transfer for transfer in forged.transfers if transfer.contract]
    assert (claim.asset, claim.contract, claim.units) == (None, emitter.lower(), 10**12)


def test_a_look_alike_token_is_no_asset(dev_chain: DevChain, reader: EvmReader, token: Token) -> None:
    fake = dev_chain.deploy("TestToken", "Tether USD", "USDT", 6, 10**18)
    found = read(reader, dev_chain.send_token(fake, dev_chain.new_account(), 5))
    assert [(t.asset, t.contract) for t in found.transfers] == [(COIN, None), (None, fake.lower())]


def test_a_fee_on_transfer_token_is_read_as_what_arrived(dev_chain: DevChain, reader: EvmReader) -> None:
    fee = dev_chain.deploy("FeeToken", "Fee", "FEE", 6, 10**18, 250)
    payee = dev_chain.new_account()
    found = read(reader, dev_chain.send_token(fee, payee, 1_000))
    assert [t.units for t in found.transfers if t.recipient == payee] == [975] == [dev_chain.balance(payee, token=fee)]


def test_what_only_looks_like_an_erc20_event_is_ignored(dev_chain: DevChain, reader: EvmReader, emitter: str) -> None:
    a, b = dev_chain.new_account(), dev_chain.new_account()
    malformed = "malformed(address,address,uint256,uint96)"
    good = dev_chain.transact(emitter, malformed, a, b, 32, 0)
    assert [t.recipient for t in read(reader, good).transfers] == [emitter, b]
    for chain_tx in (
        dev_chain.transact(emitter, "forge721(address,address,uint256)", a, b, 9),
        dev_chain.transact(emitter, malformed, a, b, 31, 0),
        dev_chain.transact(emitter, malformed, a, b, 64, 0),
        dev_chain.transact(emitter, malformed, a, b, 0, 0),
        dev_chain.transact(emitter, malformed, a, b, 32, 1),  # the recipient's topic is no address
    ):
        found = read(reader, chain_tx)
        assert found.status is TxStatus.SUCCEEDED
        assert [t.recipient for t in found.transfers] == [emitter]  # the call alone


def test_ether_passed_on_by_a_contract_is_not_seen(dev_chain: DevChain, reader: EvmReader, emitter: str) -> None:
    # A known limit: internal transfers leave no log; finding them needs traces. Money may arrive unseen, never unsent.
    payee = dev_chain.new_account()
    found = read(reader, dev_chain.transact(emitter, "forward(address)", payee, units=9))
    assert dev_chain.balance(payee) == 9
    assert [t.recipient for t in found.transfers] == [emitter]


@pytest.mark.parametrize("of", ["eth_getTransactionByHash", "eth_getTransactionReceipt"])
@pytest.mark.parametrize("blank", [True, False], ids=["null", "another block"])
def test_two_answers_that_disagree_are_never_a_success(
    dev_chain: DevChain, make_evm_reader: MakeReader, of: str, *, blank: bool
) -> None:
    """A reorg between the two halves of one reading."""
    chain_tx = dev_chain.send(dev_chain.new_account(), 5)
    change = changing(of, lambda result: None if blank else result | {"blockHash": "0x" + "cd" * 32, "logs": []})
    with proxy(dev_chain.url, change) as node:
        found = read(make_evm_reader(node.url), chain_tx)
    assert found.status is TxStatus.MEMPOOL
    assert found.block_number is None and found.transfers == ()


def test_a_transaction_without_a_status_is_not_believed_and_harms_no_neighbour(
    dev_chain: DevChain, make_evm_reader: MakeReader
) -> None:
    chain_tx = dev_chain.send(dev_chain.new_account(), 5)

    def old(result: dict[str, object]) -> dict[str, object]:
        return {key: value for key, value in result.items() if key != "status"}

    with proxy(dev_chain.url, changing("eth_getTransactionReceipt", lambda r: r and old(r))) as node:
        found = make_evm_reader(node.url).chain_txs([chain_tx, NEVER])
    assert [tx.status for tx in found.values()] == [TxStatus.MEMPOOL, TxStatus.MISSING]


def test_a_hundred_watches_cost_a_few_requests(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    with dev_chain.no_mining():
        payer = dev_chain.new_account(units=ETHER)
        ids = [dev_chain.send(dev_chain.new_account(), n, sender=payer, nonce=n) for n in range(120)]
        dev_chain.mine()
    with proxy(dev_chain.url) as node:
        reader = make_evm_reader(node.url)
        found = reader.chain_txs([*ids, NEVER])
        assert len(node.bodies) == 1 + 3  # the chain id, once; then 50 transactions a request
        reader.head()
        assert len(node.bodies) == 1 + 3 + 1
    assert [tx.status for tx in found.values()] == [TxStatus.SUCCEEDED] * 120 + [TxStatus.MISSING]
    assert [found[id_].transfers[0].units for id_ in ids] == list(range(120))
