"""What is read of a real regtest node: replaced, conflicting, dropped, undone, child pays for parent, rewards."""

import pytest

from chains.base import ChainTx, Transfer, TxStatus
from chains.bitcoin.reader import BitcoinReader
from local.bitcoin_chain import MATURITY, RegtestChain
from tests.support.bitcoin import COIN, MakeReader

pytest_plugins = ["tests.support.bitcoin_fixtures"]

UNITS = 1_000_000


@pytest.fixture
def reader(make_bitcoin_reader: MakeReader) -> BitcoinReader:
    return make_bitcoin_reader()


def one(reader: BitcoinReader, chain_tx: str) -> ChainTx:
    return reader.chain_txs([chain_tx])[chain_tx]


def scanned(reader: BitcoinReader, first: int, *addresses: str) -> tuple[Transfer, ...]:
    return reader.scan(first, reader.head().latest.number, addresses).transfers


def test_the_node_and_we_read_the_same(reader: BitcoinReader, regtest: RegtestChain) -> None:
    """An independent reading: bcoin's own of the transaction, in its verbose answer."""
    payees = [regtest.new_address() for _ in range(3)]
    chain_tx = regtest.send(*[(payee, UNITS + n) for n, payee in enumerate([*payees, payees[0]])])
    number = regtest.mine()
    theirs = regtest.rpc("getrawtransaction", chain_tx, 1)
    found = one(reader, chain_tx)
    assert [(t.index, t.recipient, t.units) for t in found.transfers] == [
        (out["n"], out["scriptPubKey"]["addresses"][0], int(out["value"] * 10**8)) for out in theirs["vout"]
    ]
    assert found.inputs == tuple(f"{each['txid']}:{each['vout']}" for each in theirs["vin"])
    header = regtest.rpc("getblockheader", theirs["blockhash"], True)
    assert (found.block_number, found.block_hash) == (number, theirs["blockhash"])
    assert found.block_time is not None and found.block_time.timestamp() == header["time"]
    assert reader.blocks([number])[number].parent_hash == header["previousblockhash"]
    assert scanned(reader, number, *payees) == found.transfers[:-1], "the last output is the change"


def test_two_outputs_to_one_address_are_two_transfers(reader: BitcoinReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    chain_tx = regtest.send((payee, UNITS), (payee, UNITS), (payee, 0))
    number = regtest.mine()
    found = scanned(reader, number, payee)
    assert [(t.chain_tx, t.index, t.units) for t in found] == [
        (chain_tx, 0, UNITS),
        (chain_tx, 1, UNITS),
        (chain_tx, 2, 0),
    ]
    assert {(t.sender, t.asset, t.contract) for t in found} == {(None, COIN, None)}


def test_all_kinds_of_addresses_are_found(reader: BitcoinReader, regtest: RegtestChain) -> None:
    from btclib import b32, b58

    payees = [
        b58.address_from_h160("p2pkh", b"\x31" * 20, "regtest"),
        b58.address_from_h160("p2sh", b"\x32" * 20, "regtest"),
        b32.address_from_witness(0, b"\x33" * 20, "regtest"),
        b32.address_from_witness(0, b"\x34" * 32, "regtest"),
        b32.address_from_witness(1, b"\x35" * 32, "regtest"),
    ]
    regtest.send(*[(payee, UNITS) for payee in payees])
    number = regtest.mine()
    assert [t.recipient for t in scanned(reader, number, *payees)] == payees
    assert [t.recipient for t in scanned(reader, number, payees[4].upper())] == payees[4:], "as a QR code spells it"


# --- replaced, dropped, undone -------------------------------------------------------------------------------------


def test_a_replaced_payment_is_never_counted(reader: BitcoinReader, regtest: RegtestChain) -> None:
    payee, other = regtest.new_address(), regtest.new_address()
    first = regtest.send((payee, UNITS))
    waiting = one(reader, first)
    assert waiting.status is TxStatus.MEMPOOL and waiting.transfers == () and waiting.inputs
    second = regtest.replace(first, (other, UNITS))
    gone, instead = one(reader, first), one(reader, second)
    assert gone.status is TxStatus.MISSING and instead.status is TxStatus.MEMPOOL
    assert instead.inputs == waiting.inputs
    assert reader.spent(waiting.inputs) == frozenset(), "the one that outbid it is in no block either"
    number = regtest.mine()
    assert reader.spent(waiting.inputs) == frozenset(waiting.inputs)
    assert one(reader, first).status is TxStatus.MISSING
    assert [t.chain_tx for t in scanned(reader, number, payee, other)] == [second]


def test_a_payment_that_is_outbid_twice_and_wins_after_all(reader: BitcoinReader, regtest: RegtestChain) -> None:
    """The replacement is in a block; a reorg takes it out, and the first payment is confirmed instead."""
    payee, other = regtest.new_address(), regtest.new_address()
    first = regtest.send((payee, UNITS))
    inputs = one(reader, first).inputs
    second = regtest.replace(first, (other, UNITS))
    number = regtest.mine(2) - 1
    assert reader.spent(inputs) == frozenset(inputs)
    regtest.undo(2)
    assert one(reader, second).status is TxStatus.MISSING
    assert reader.spent(inputs) == frozenset()
    regtest.resend(first)
    assert one(reader, first).status is TxStatus.MEMPOOL
    regtest.mine()
    assert one(reader, first).status is TxStatus.SUCCEEDED
    assert [t.chain_tx for t in scanned(reader, number, payee, other)] == [first]


def test_an_input_is_spent_from_the_block_of_its_spender_on(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain
) -> None:
    reader = make_bitcoin_reader(reorg_depth=30)
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    (spent,) = one(reader, chain_tx).inputs
    number = regtest.mine()
    regtest.mine(5)
    for block in range(number - 2, number + 7):
        assert reader.spent([spent], block=block) == (frozenset([spent]) if block >= number else frozenset())
    assert reader.spent([spent]) == frozenset([spent])
    assert reader.spent([spent.upper()], block=number) == frozenset([spent.upper()]), "in the spelling that was asked"
    # Deeper than a reorg may reach nothing is looked at: it is as good as spent by then.
    assert make_bitcoin_reader(reorg_depth=3).spent([spent], block=number - 1) == frozenset([spent])


def test_an_output_that_does_not_exist_is_not_spent(reader: BitcoinReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    parent = regtest.send((payee, UNITS))
    child = regtest.spend(parent, 1, (payee, UNITS))
    assert one(reader, child).inputs == (f"{parent}:1",)
    unconfirmed, never = f"{parent}:1", f"{'ab' * 32}:0"
    assert reader.spent([unconfirmed, never]) == frozenset(), "its parent is in no block"
    regtest.drop(parent)
    assert one(reader, child).status is one(reader, parent).status is TxStatus.MISSING
    assert reader.spent([unconfirmed]) == frozenset(), "and may never be in one"
    regtest.resend(parent)
    number = regtest.mine()
    assert reader.spent([unconfirmed]) == frozenset(), "made, and unspent"
    assert reader.spent([f"{parent}:0", f"{parent}:2"]) == frozenset(), "there is no output 2"
    regtest.resend(child)
    regtest.mine()
    assert reader.spent([unconfirmed, never, f"{parent}:0"]) == frozenset([unconfirmed])
    assert [t.chain_tx for t in scanned(reader, number, payee)] == [parent, child]


@pytest.mark.parametrize(
    "wrong", ["", "7", "ab:0", f"{'ab' * 32}", f"{'ab' * 32}:-1", f"{'ab' * 32}:x", "0x11/7", f"{'ab' * 32}:{2**32}"]
)
def test_what_is_no_output_is_a_mistake_of_ours(reader: BitcoinReader, wrong: str) -> None:
    with pytest.raises(ValueError, match="is no output"):
        reader.spent([wrong])


def test_a_dropped_payment_is_missing_and_may_come_back(reader: BitcoinReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    chain_tx = regtest.send((payee, UNITS))
    inputs = one(reader, chain_tx).inputs
    regtest.drop(chain_tx)
    assert one(reader, chain_tx) == ChainTx(id=chain_tx, status=TxStatus.MISSING)
    assert reader.spent(inputs) == frozenset()
    regtest.resend(chain_tx)
    number = regtest.mine()
    assert [t.units for t in scanned(reader, number, payee)] == [UNITS]


def test_a_child_pays_for_its_parent_and_each_counts_once(reader: BitcoinReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    parent = regtest.send((payee, UNITS), fee=200)
    child = regtest.spend(parent, 1, (payee, 2 * UNITS), fee=50_000)
    found = reader.chain_txs([child, parent])
    assert {found[child].status, found[parent].status} == {TxStatus.MEMPOOL}
    number = regtest.mine()
    found = reader.chain_txs([child, parent])
    assert {found[child].block_number, found[parent].block_number} == {number}
    assert sorted((t.chain_tx, t.units) for t in scanned(reader, number, payee)) == sorted(
        [(parent, UNITS), (child, 2 * UNITS)]
    )


def test_a_payment_that_moves_to_another_block_names_that_one(reader: BitcoinReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    chain_tx = regtest.send((payee, UNITS))
    number = regtest.mine(3) - 2
    before = one(reader, chain_tx)
    regtest.undo(3, keep=[chain_tx])
    after = one(reader, chain_tx)
    assert before.block_number == after.block_number == number and before.block_hash != after.block_hash
    assert [t.block_hash for t in scanned(reader, number, payee)] == [after.block_hash]


# --- rewards -------------------------------------------------------------------------------------------------------


def test_a_reward_is_no_payment_before_it_can_be_spent(reader: BitcoinReader, regtest: RegtestChain) -> None:
    miner = regtest.new_address()
    number = regtest.mine(to=miner)
    chain_tx = regtest.rpc("getblock", regtest.rpc("getblockhash", number), 1)["tx"][0]
    regtest.mine(MATURITY - 1)
    young = one(reader, chain_tx)
    assert (young.status, young.transfers, young.inputs) == (TxStatus.MEMPOOL, (), ())
    assert scanned(reader, number, miner) == ()
    regtest.mine()
    ripe = one(reader, chain_tx)
    assert ripe.status is TxStatus.SUCCEEDED and ripe.block_number == number
    assert scanned(reader, number, miner) == ripe.transfers and ripe.transfers[0].recipient == miner


# --- many ----------------------------------------------------------------------------------------------------------


def test_many_transactions_at_once(reader: BitcoinReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    ids = [regtest.send((payee, UNITS + n)) for n in range(25)]
    number = regtest.mine()
    never = [f"{n:064x}" for n in range(1, 26)]
    found = reader.chain_txs([*ids, *never, ids[0].upper()])
    assert [found[id_].transfers[0].units for id_ in ids] == [UNITS + n for n in range(25)]
    assert {found[id_].status for id_ in never} == {TxStatus.MISSING}
    assert found[ids[0].upper()] == found[ids[0]]
    assert sorted(t.chain_tx for t in scanned(reader, number, payee)) == sorted(ids)


def test_the_first_coinbase_of_all_disturbs_nobody(reader: BitcoinReader, regtest: RegtestChain) -> None:
    """Bitcoin Core refuses to show it. Anybody may name it as his payment."""
    (genesis,) = regtest.rpc("getblock", regtest.rpc("getblockhash", 0), 1)["tx"]
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    found = reader.chain_txs([genesis, chain_tx])
    assert found[genesis].transfers == () and found[chain_tx].status is TxStatus.MEMPOOL
    assert reader.scan(0, 3, [regtest.new_address()]).blocks[0].parent_hash == "00" * 32
