"""Nodes that lie, change their mind or go away: a TransientError each time, and never money that is not there."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from btclib.block.block import Block as RawBlock
from btclib.tx.tx import Tx

from chains.bitcoin.reader import BitcoinReader
from chains.errors import DisagreementError
from config.assets import Asset, Chain, Node
from core.errors import PermanentError, TransientError
from local.bitcoin_chain import RegtestChain
from tests.support.bitcoin import (
    COIN,
    PARENT,
    REGTEST,
    MakeReader,
    altered,
    block,
    coinbase,
    need_transient,
    payment,
)
from tests.support.evm import changing

pytest_plugins = ["tests.support.bitcoin_fixtures"]

UNITS = 1_000_000
SCRIPT = b"\x00\x14" + b"\x07" * 20
NEVER = "ab" * 32


# --- lies ----------------------------------------------------------------------------------------------------------


def test_a_block_that_is_not_under_its_root_is_refused(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    regtest.send((payee, UNITS))
    number = regtest.mine()

    def richer(raw: str) -> str:
        told = RawBlock.parse(bytes.fromhex(raw), check_validity=False)
        units = UNITS.to_bytes(8, "little").hex()
        assert raw.count(units) == 1 and len(told.transactions) >= 2
        return raw.replace(units, (10 * UNITS).to_bytes(8, "little").hex())

    with altered(regtest, changing("getblock", richer)) as node:
        reader = make_bitcoin_reader(node.url)
        assert "merkle root" in str(need_transient(lambda: reader.scan(number, number, [payee])))
    with altered(regtest, changing("getblock", lambda _: block(number, [coinbase(number)])[1])) as node:
        reader = make_bitcoin_reader(node.url)
        assert "another hash" in str(need_transient(lambda: reader.scan(number, number, [payee])))


def test_a_transaction_that_was_changed_is_refused(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    regtest.mine()
    units = UNITS.to_bytes(8, "little").hex()

    def richer(told: Any) -> Any:
        return told | {"hex": told["hex"].replace(units, "00e1f50500000000")}

    with altered(regtest, changing("getrawtransaction", richer)) as node:
        reader = make_bitcoin_reader(node.url)
        assert "asked for" in str(need_transient(lambda: reader.chain_txs([chain_tx])))


def test_a_transaction_that_is_not_in_the_block_it_is_said_to_be_in_is_refused(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain
) -> None:
    """The worst lie: a payment that only waits, shown as if it were deep in the chain."""
    other = regtest.send((regtest.new_address(), UNITS))
    number = regtest.mine()
    regtest.mine(6)
    where = regtest.rpc("getblockhash", number)
    chain_tx = regtest.send((regtest.new_address(), UNITS))

    def lie(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call for call in body}
        for answer in answers:
            call = asked[answer["id"]]
            if call["method"] == "getrawtransaction":
                answer["result"] |= {"blockhash": where, "confirmations": 7}
            if call["method"] == "gettxoutproof":
                answer |= {"error": None, "result": regtest.rpc("gettxoutproof", [other], where)}
        return answers

    with altered(regtest, lie) as node:
        reader = make_bitcoin_reader(node.url)
        assert f"no proof that {chain_tx} is in block" in str(need_transient(lambda: reader.chain_txs([chain_tx])))
    header = changing("getblockheader", lambda told: told | {"hash": NEVER})
    with altered(regtest, header) as node:
        need_transient(lambda: make_bitcoin_reader(node.url).chain_txs([other]))


def test_two_nodes_that_tell_it_differently_end_the_matter(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain
) -> None:
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    number = regtest.mine()
    regtest.mine(3)
    other_host = regtest.url.replace("127.0.0.1", "localhost")
    assert make_bitcoin_reader(regtest.url, other_host).agreed([chain_tx])[chain_tx].block_number == number
    with pytest.raises(TransientError, match="no second endpoint"):
        make_bitcoin_reader(regtest.url).agreed([chain_tx])
    shifted = changing("getblockheader", lambda told: told | {"height": number - 1} if type(told) is dict else told)
    with altered(regtest, shifted) as node, pytest.raises(DisagreementError):
        make_bitcoin_reader(other_host, node.url).agreed([chain_tx])


# --- a chain that changes, a node that goes away -------------------------------------------------------------------


class Once:
    """Does something when a method is called for the nth time, before the answer goes out."""

    def __init__(self, method: str, act: Callable[[], object], *, nth: int = 1) -> None:
        self.method, self.act, self.left = method, act, nth

    def __call__(self, body: Any, answers: Any) -> Any:
        if any(call["method"] == self.method for call in body):
            self.left -= 1
            if self.left == 0:
                self.act()
        return answers


@pytest.mark.parametrize("method", ["getblockhash", "getblock", "getblockheader"])
def test_a_reorg_while_scanning_ends_the_scan(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain, method: str
) -> None:
    payee = regtest.new_address()
    chain_tx = regtest.send((payee, UNITS))
    first = regtest.mine()
    regtest.mine(5)
    addresses = [] if method == "getblockheader" else [payee]
    once = Once(method, lambda: regtest.undo(4, longer=2), nth=2 if method == "getblockhash" else 1)
    with altered(regtest, once) as node:
        reader = make_bitcoin_reader(node.url)
        need_transient(lambda: reader.scan(first, first + 5, addresses))
        again = reader.scan(first, first + 5, [payee])
    assert [t.chain_tx for t in again.transfers] == [chain_tx]
    assert [b.hash for b in again.blocks] == [regtest.rpc("getblockhash", first + n) for n in range(6)]


@pytest.mark.parametrize("what", ["chain_txs", "spent", "blocks"])
def test_a_reorg_while_reading_ends_the_reading(
    make_bitcoin_reader: MakeReader, regtest: RegtestChain, what: str
) -> None:
    chain_tx = regtest.send((regtest.new_address(), UNITS))
    number = regtest.mine()
    inputs = make_bitcoin_reader().chain_txs([chain_tx])[chain_tx].inputs
    reads: dict[str, tuple[str, Callable[[BitcoinReader], Any]]] = {
        "chain_txs": ("getrawtransaction", lambda reader: reader.chain_txs([chain_tx])),
        "spent": ("gettxout", lambda reader: reader.spent(inputs)),
        "blocks": ("getblockheader", lambda reader: reader.blocks([number])),
    }
    method, read = reads[what]
    with altered(regtest, Once(method, lambda: regtest.undo(1))) as node:
        reader = make_bitcoin_reader(node.url)
        need_transient(lambda: read(reader))
        read(reader)


def test_blocks_of_two_forks_are_no_scan(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    """Each block is what its hash stands for, and the best one never changes; yet one does not follow the other."""
    number = regtest.mine(2)
    hash_, raw = block(number - 1, [coinbase(number - 1), payment((UNITS, SCRIPT))], parent=PARENT)

    def fork(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call for call in body}
        for answer in answers:
            match asked[answer["id"]]:
                case {"method": "getblockhash", "params": [n]} if n == number - 1:
                    answer["result"] = hash_
                case {"method": "getblock", "params": [h, 0]} if h == hash_:
                    answer |= {"error": None, "result": raw}
                case {"method": "getblockheader", "params": [h, False]} if h == hash_:
                    answer |= {"error": None, "result": raw[:160]}
        return answers

    with altered(regtest, fork) as node:
        reader = make_bitcoin_reader(node.url)
        for addresses in ([regtest.address], []):
            error = need_transient(lambda addresses=addresses: reader.scan(number - 1, number, addresses))  # type: ignore[misc]
            assert "changed under the scan" in str(error)


def test_a_node_that_goes_away_in_a_scan(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    """The scan ends, or the next node does it all: never half of one and half of another."""
    payee = regtest.new_address()
    ids = []
    for _ in range(4):
        ids.append(regtest.send((payee, UNITS)))
        last = regtest.mine()
    served = 0

    def dying(body: Any, answers: Any) -> Any:
        nonlocal served
        served += body[0]["method"] == "getblock"
        return (503, {}, b"") if served > 2 else answers

    with altered(regtest, dying) as node:
        reader = make_bitcoin_reader(node.url)
        need_transient(lambda: reader.scan(last - 3, last, [payee]))
        served = 0
        both = make_bitcoin_reader(node.url, regtest.url).scan(last - 3, last, [payee])
    assert [t.chain_tx for t in both.transfers] == ids
    assert served > 2


def test_a_scan_holds_one_block_at_a_time(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    last = regtest.mine(6)
    with altered(regtest, lambda _body, answers: answers) as node:
        make_bitcoin_reader(node.url, scan_blocks_max=6).scan(last - 5, last, [regtest.address])
        blocks = [len(body) for body in node.bodies if any(call["method"] == "getblock" for call in body)]
        with pytest.raises(ValueError, match="at most 6"):
            make_bitcoin_reader(node.url, scan_blocks_max=6).scan(last - 6, last, [])
    assert blocks == [1] * 6, "each in a request of its own"


def test_a_scan_beyond_the_head_is_refused(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    last = regtest.height
    assert "does not have block" in str(
        need_transient(lambda: make_bitcoin_reader().scan(last, last + 1, [regtest.address]))
    )
    assert make_bitcoin_reader().blocks([last + 1, 2**31 - 1]) == {}


# --- configuration -------------------------------------------------------------------------------------------------


def reader_of(chain: str, *assets: Asset) -> BitcoinReader:
    node = Node(url="http://127.0.0.1:1")
    return BitcoinReader(
        Chain(
            id=chain, name="x", namespace="bip122", confirmations=2, reorg_depth=9, block_time_ms=1_000, nodes=(node,)
        ),
        assets,
    )


@pytest.mark.parametrize(
    ("chain", "assets", "why"),
    [
        ("bip122:12a765e31ffd4059bada1e25190f6e98", [], "no Bitcoin network"),
        (REGTEST, [Asset(id=f"{REGTEST}/erc20:0x11", symbol="X", scale=8)], "no asset of"),
        (REGTEST, [Asset(id=f"{REGTEST}/ordinals:1", symbol="X", scale=8)], "no asset of"),
        (REGTEST, [Asset(id=COIN, symbol="BTC", scale=18)], "scale 18"),
        (REGTEST, [Asset(id=f"{REGTEST}/slip44:{n}", symbol="BTC", scale=8) for n in (0, 1)], "two coins"),
    ],
)
def test_a_wrong_configuration_is_refused(chain: str, assets: list[Asset], why: str) -> None:
    with pytest.raises(PermanentError, match=why):
        reader_of(chain, *assets)


def test_a_chain_without_its_coin_reports_unknown_money(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    payee = regtest.new_address()
    chain_tx = regtest.send((payee, UNITS))
    number = regtest.mine()
    nodes = (Node(url=regtest.url),)
    chain = Chain(
        id=REGTEST, name="x", namespace="bip122", confirmations=2, reorg_depth=9, block_time_ms=1_000,
        head_age_max_s=0, nodes=nodes,
    )  # fmt: skip
    (found,) = BitcoinReader(chain, []).scan(number, number, [payee]).transfers
    assert (found.chain_tx, found.asset, found.units) == (chain_tx, None, UNITS)


def test_json_numbers_are_never_amounts(make_bitcoin_reader: MakeReader, regtest: RegtestChain) -> None:
    """Amounts come from raw bytes: what the node says of them in decimals is not looked at."""
    chain_tx = regtest.send((regtest.new_address(), 12_345_678))
    regtest.mine()

    def other_values(told: Any) -> Any:
        return told | {"vout": json.loads(json.dumps(told["vout"]).replace("0.12345678", "0.1234567800000001"))}

    with altered(regtest, changing("getrawtransaction", other_values)) as node:
        found = make_bitcoin_reader(node.url).chain_txs([chain_tx])[chain_tx]
    assert found.transfers[0].units == 12_345_678
    assert Tx.parse(bytes.fromhex(regtest.raw(chain_tx))).vout[0].value == 12_345_678
