"""What tests and the demo do on the development Bitcoin chain: pay, mine, outbid, drop, undo.

It speaks Bitcoin Core's JSON-RPC (regtest), signs by itself and needs no wallet. Amounts are satoshi, ids lower case.
"""

import hashlib
import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import coincurve
import httpx
from btclib import b32
from btclib.hashes import hash160
from btclib.script.script_pub_key import ScriptPubKey
from btclib.script.sig_hash import segwit_v0
from btclib.script.witness import Witness
from btclib.tx.out_point import OutPoint
from btclib.tx.tx import Tx
from btclib.tx.tx_in import TxIn
from btclib.tx.tx_out import TxOut

COIN = 10**8
MATURITY = 100
"""Blocks that must stand on a block before its reward can be spent."""
FEE = 10_000
REPLACEABLE = 0xFFFFFFFD
"""A sequence number that allows a transaction to be replaced (BIP-125)."""

SPLIT = 400
"""Coins that one block reward is split into: each payment takes one, so that none waits for another."""
COINS_MIN = 40


class RegtestError(Exception):
    """The node refused."""


@dataclass(frozen=True)
class _Coin:
    txid: str
    index: int
    units: int


class RegtestChain:
    """A running node. One of these for each; not thread-safe."""

    chain = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(timeout=60, trust_env=False)  # no proxy: the node is on this machine
        self._ids = itertools.count(1)
        self._key = coincurve.PrivateKey(hashlib.sha256(b"Tallyrail's regtest money").digest())
        self._public = self._key.public_key.format()
        self.address = b32.address_from_witness(0, hash160(self._public), "regtest")
        """Where the rewards and all change go."""
        self._script = ScriptPubKey.from_address(self.address).script
        self._coins: list[_Coin] = []
        self._used: dict[str, tuple[_Coin, ...]] = {}
        """The coins that a transaction of ours takes."""
        self._raw: dict[str, str] = {}
        self._funding: list[str] = []

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rpc(self, method: str, *params: Any) -> Any:
        """Any method of the node. Raises RegtestError with the node's words."""
        call = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        reply = self._http.post(self.url, json=call)
        try:
            answer = reply.json(parse_float=Decimal)
        except ValueError:
            raise RegtestError(f"{method}: HTTP {reply.status_code}") from None
        if answer.get("error"):
            raise RegtestError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    # Money

    def fund(self) -> None:
        """Enough coins for a while. Mines what that takes, a hundred blocks the first time; what waits stays so."""
        while True:
            ripe = self.height - MATURITY
            reward = next((coin for n in range(1, ripe + 1) if (coin := self._reward(n)) is not None), None)
            if reward is not None:
                break
            for _ in range(max(1, 1 - ripe)):
                self.mine_only()
        share = (reward.units - SPLIT * 100) // SPLIT
        chain_tx = self._send([reward], [TxOut(share, self._script)] * SPLIT)
        self.mine_only(chain_tx)
        self._funding.append(chain_tx)
        self._coins = [_Coin(chain_tx, index, share) for index in range(SPLIT)] + self._coins

    def _reward(self, number: int) -> _Coin | None:
        """The reward of this block, if it is ours and unspent."""
        block = self.rpc("getblock", self.rpc("getblockhash", number), 1)
        out = self.rpc("gettxout", block["tx"][0], 0, True)
        if out is None or out["scriptPubKey"]["hex"] != self._script.hex():
            return None
        return _Coin(block["tx"][0], 0, int(out["value"] * COIN))

    def watch(self, address: str) -> None:
        """Have the node's wallet know of what this address gets and spends. (Core asks for a checksum behind it.)"""
        (done,) = self.rpc("importdescriptors", [{"desc": f"addr({address})", "timestamp": 0}])
        if not done["success"]:
            raise RegtestError(f"importdescriptors: {done['error']['message']}")

    @staticmethod
    def new_address() -> str:
        """A fresh P2WPKH address, nobody's."""
        return b32.address_from_witness(0, secrets.token_bytes(20), "regtest")

    # Transactions. They wait in the mempool until `mine`.

    def send(self, *payments: tuple[str, int], fee: int = FEE) -> str:
        """One transaction that pays these (address, units) in its first outputs; its last is what comes back."""
        total = sum(units for _, units in payments)
        if len(self._coins) < COINS_MIN:
            self.fund()
        coins: list[_Coin] = []
        while sum(coin.units for coin in coins) < total + fee:
            coins.append(self._coins.pop())
        return self._send(coins, self._outputs(coins, payments, fee))

    def spend(self, chain_tx: str, index: int, *payments: tuple[str, int], fee: int = FEE) -> str:
        """As `send`, of an output of a transaction to `address`, which may still wait."""
        out = Tx.parse(bytes.fromhex(self.raw(chain_tx))).vout[index]
        coins = [_Coin(chain_tx, index, out.value)]
        return self._send(coins, self._outputs(coins, payments, fee))

    def replace(self, chain_tx: str, *payments: tuple[str, int], fee: int = 10 * FEE) -> str:
        """Outbid a waiting transaction by one that takes the same coins; by default it pays nobody but ourselves."""
        coins = self._used[chain_tx]
        return self._send(coins, self._outputs(coins, payments, fee))

    def drop(self, chain_tx: str) -> None:
        """Make the node forget a waiting transaction, and those that spend what it pays."""
        self.rpc("dropfrommempool", chain_tx)

    def resend(self, chain_tx: str) -> None:
        """Tell the node again of one that it has dropped."""
        self.rpc("sendrawtransaction", self._raw[chain_tx])

    def raw(self, chain_tx: str) -> str:
        return self._raw.get(chain_tx) or str(self.rpc("getrawtransaction", chain_tx, 0))

    def _outputs(self, coins: Sequence[_Coin], payments: Sequence[tuple[str, int]], fee: int) -> list[TxOut]:
        outputs = [TxOut(units, ScriptPubKey.from_address(address)) for address, units in payments]
        change = sum(coin.units for coin in coins) - sum(units for _, units in payments) - fee
        return [*outputs, TxOut(change, self._script)]

    def _send(self, coins: Sequence[_Coin], outputs: Sequence[TxOut]) -> str:
        inputs = [TxIn(OutPoint(coin.txid, coin.index), b"", REPLACEABLE) for coin in coins]
        tx = Tx(2, 0, inputs, outputs)
        code = b"\x76\xa9\x14" + hash160(self._public) + b"\x88\xac"  # BIP-143: of P2WPKH as of P2PKH
        witnesses = []
        for place, coin in enumerate(coins):
            digest = segwit_v0(code, tx, place, 1, coin.units)
            witnesses.append(Witness([self._key.sign(digest, hasher=None) + b"\x01", self._public]))
        for made, witness in zip(tx.vin, witnesses, strict=True):
            made.script_witness = witness
        raw = tx.serialize(include_witness=True).hex()
        chain_tx = str(self.rpc("sendrawtransaction", raw))
        self._used[chain_tx] = tuple(coins)
        self._raw[chain_tx] = raw
        return chain_tx

    # Blocks

    @property
    def height(self) -> int:
        return int(self.rpc("getblockcount"))

    @property
    def waiting(self) -> list[str]:
        return list(self.rpc("getrawmempool"))

    def height_of(self, chain_tx: str) -> int | None:
        """The block of the best chain that holds it, as the node says."""
        try:
            found = self.rpc("getrawtransaction", chain_tx, 1)
        except RegtestError:
            return None
        if found.get("blockhash") is None:
            return None
        header = self.rpc("getblockheader", found["blockhash"], True)
        return int(header["height"]) if header["confirmations"] > 0 else None

    def mine(self, blocks: int = 1, *, to: str | None = None) -> int:
        """Returns the new height. The first of the blocks takes what waits."""
        self.rpc("generatetoaddress", blocks, to or self.address)
        return self.height

    def mine_only(self, *chain_txs: str, to: str | None = None) -> None:
        """A block of exactly these, waiting or known from before; what else waits goes on waiting."""
        self.rpc("generateblock", to or self.address, [self.raw(chain_tx) for chain_tx in chain_txs])

    def undo(self, blocks: int, *, keep: Sequence[str] = (), longer: int = 1) -> None:
        """Others take the place of the newest blocks, `longer` more of them.

        Of the transactions of the old ones only those to `keep` are in the new ones, in the first of them; the others
        are forgotten. What waited goes on waiting.
        """
        waited = [self.raw(chain_tx) for chain_tx in self.waiting]
        first = self.height - blocks + 1
        kept = [
            self.raw(chain_tx)
            for chain_tx in [*self._funding, *keep]  # what older blocks hold stays where it is
            if (self.height_of(chain_tx) or 0) >= first
        ]
        self.rpc("invalidateblock", self.rpc("getblockhash", first))
        for chain_tx in self.waiting:
            if chain_tx in self.waiting:  # dropping one drops those that spend it
                self.drop(chain_tx)
        self.rpc("generateblock", self.address, kept)
        for raw in waited:
            self.rpc("sendrawtransaction", raw)
        for _ in range(blocks + longer - 1):
            self.rpc("generateblock", self.address, [])
