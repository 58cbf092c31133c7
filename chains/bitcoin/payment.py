"""What a payment of ours on Bitcoin is made of: its outputs, its size, its fee. Pure, and shared with the signer.

Units are satoshi; rates are satoshi for 1,000 vbytes. The wallet is one P2WPKH address, so each input weighs the same.
`Terms.inputs` are outputs of the wallet, `txid:index`. `Terms.fields`, decimal numbers as strings:

    parents   a list: the transactions that made the inputs, each once, in hex and without their witnesses
    change    a list: what each output back to the wallet gets; empty if nothing comes back
    block     the number of the newest block when the terms were made

What an input is worth is read from its parent, whose id is computed. Not for nothing: a signature (BIP-143) commits to
the amount of its own input only. Who can have two versions signed could otherwise lie of the one input in the first and
of the other in the second, and put the two true signatures together: a fee that no policy has seen.

`Terms.fee_max` is the fee, exactly: inputs less outputs. The outputs are the recipient's, unless the terms cancel, and
those of the change after it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from btclib.tx.tx import Tx

from chains.sending import Terms

INPUTS_MAX = 200
PARENTS_MAX = 200_000
"""Digits of hex of all parents together: the signer reads requests of 262,144 bytes."""
WEIGHT_MAX = 400_000
"""Of what nodes pass on (Bitcoin Core, policy.h, MAX_STANDARD_TX_WEIGHT)."""

_INPUT_WEIGHT = 4 * (36 + 1 + 4) + (1 + 1 + 72 + 1 + 33)
"""Outpoint, empty script, sequence; and the witness (BIP-141): a signature of 72 bytes at most, a compressed key."""
INPUT_VSIZE = _INPUT_WEIGHT // 4

_DUST_RATE = 3_000
_SPEND_VSIZE, _SPEND_WITNESS_VSIZE = 148, 67
"""What it takes to spend an output, as Bitcoin Core reckons (policy.cpp, GetDustThreshold)."""

SHARE_MIN = 100_000
"""Change is parted only into outputs of at least this, and of what was paid: smaller ones would soon be of no use."""

_OUTPOINT = re.compile(r"([0-9a-f]{64}):(0|[1-9][0-9]{0,9})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent output of the wallet."""

    chain_tx: str
    index: int
    units: int

    @property
    def name(self) -> str:
        return f"{self.chain_tx}:{self.index}"


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be done, whatever it is paid with."""

    script: bytes | None
    """The recipient's output script. None: nobody is paid, all goes back to the wallet."""
    units: int
    """0 if nobody is paid."""
    home: bytes
    """The wallet's output script."""

    def scripts(self, change: int) -> list[bytes]:
        """Of the outputs, with so many for the change."""
        return [*([] if self.script is None else [self.script]), *[self.home] * change]


@dataclass(frozen=True, slots=True)
class Plan:
    coins: tuple[Coin, ...]
    change: tuple[int, ...]
    fee: int


@dataclass(frozen=True, slots=True)
class Written:
    """What terms say."""

    plan: Plan
    block: int
    parents: Mapping[str, Tx]

    def script(self, coin: Coin) -> bytes:
        return bytes(self.parents[coin.chain_tx].vout[coin.index].script_pub_key.script)


def fee_of(rate: int, vsize: int) -> int:
    """Rounded up."""
    return -(-rate * vsize // 1_000)


def vsize(inputs: int, scripts: Sequence[bytes]) -> int:
    """At most, of so many inputs of the wallet and outputs of these scripts (BIP-141: a quarter of its weight)."""
    bare = 4 + _compact(inputs) + _compact(len(scripts)) + sum(map(_output_size, scripts)) + 4
    return -(-(4 * bare + 2 + _INPUT_WEIGHT * inputs) // 4)


def dust(script: bytes) -> int:
    """The least that an output of this script may have for nodes to pass it on."""
    witness = 4 <= len(script) <= 42 and script[0] in (0, *range(0x51, 0x61)) and script[1] == len(script) - 2  # noqa: PLR2004
    return (_output_size(script) + (_SPEND_WITNESS_VSIZE if witness else _SPEND_VSIZE)) * _DUST_RATE // 1_000


def _output_size(script: bytes) -> int:
    return 8 + _compact(len(script)) + len(script)


def _compact(count: int) -> int:
    return 1 if count < 0xFD else 3  # noqa: PLR2004


def planned(aim: Aim, coins: Sequence[Coin], asks: Callable[[int], int], *, parts: int = 1) -> Plan | None:
    """With exactly these inputs, and change in at most so many parts. None if they don't suffice.

    `asks`: from the size in vbytes to the fee. A rest that is too little for an output goes to the fee: that is less
    than the wallet's dust limit and what an output more would cost.
    """
    total = sum(coin.units for coin in coins)
    for count in range(parts, 0, -1):
        rest = total - aim.units - asks(vsize(len(coins), aim.scripts(count)))
        if rest >= count * (dust(aim.home) if count == 1 else max(SHARE_MIN, aim.units)):
            share, odd = divmod(rest, count)
            change = (share + odd, *[share] * (count - 1))
            return Plan(tuple(coins), change, total - aim.units - rest)
    if aim.script is not None and total - aim.units >= asks(vsize(len(coins), aim.scripts(0))):
        return Plan(tuple(coins), (), total - aim.units)
    return None


def chosen(
    aim: Aim, coins: Sequence[Coin], asks: Callable[[int], int], *, having: Sequence[Coin] = (), parts: int = 1
) -> Plan | None:
    """With as few of these coins as will do, the largest first; beside those of `having`, which are taken anyway.

    That is the cheapest now, and the same for the same coins. What it leaves behind are small outputs; see
    docs/chains-bitcoin.md. (Erhardt, An Evaluation of Coin Selection Strategies, 2016, compares the ways.)
    """
    ordered = sorted(coins, key=lambda coin: (-coin.units, coin.chain_tx, coin.index))
    for count in range(0 if having else 1, min(len(ordered), INPUTS_MAX - len(having)) + 1):
        plan = planned(aim, [*having, *ordered[:count]], asks, parts=parts)
        if plan is not None:
            return plan
    return None


def stripped(parent: Tx) -> str:
    """In hex, without witnesses: what its id is computed of."""
    return parent.serialize(include_witness=False, check_validity=False).hex()


def terms_of(plan: Plan, parents: Mapping[str, Tx], *, cancels: bool, block: int) -> Terms:
    """`parents`: by id, at least those of the plan's coins."""
    made = {coin.chain_tx: parents[coin.chain_tx] for coin in plan.coins}
    return Terms(
        inputs=tuple(coin.name for coin in plan.coins),
        fee_max=plan.fee,
        cancels=cancels,
        fields={
            "parents": [stripped(each) for each in made.values()],
            "change": [str(units) for units in plan.change],
            "block": str(block),
        },
    )


def written(terms: Terms) -> Written:
    """The other way round. Raises ValueError for what `terms_of` can't have made."""
    fields: Mapping[str, Any] = terms.fields
    if fields.keys() != {"parents", "change", "block"}:
        raise ValueError("the fields are parents, change and block")
    if len(set(terms.inputs)) != len(terms.inputs):
        raise ValueError("an input is there twice")
    parents = _parents(fields["parents"])
    coins = tuple(_coin(each, parents) for each in terms.inputs)
    if parents.keys() != {coin.chain_tx for coin in coins}:
        raise ValueError("the parents are those of the inputs, and no others")
    (block,) = _numbers("block", [fields["block"]])
    return Written(Plan(coins, _numbers("change", fields["change"]), terms.fee_max), block, parents)


def _parents(value: object) -> dict[str, Tx]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError("parents is a list of hex")
    try:
        parsed = [Tx.parse(bytes.fromhex(each), check_validity=False) for each in value]
    except (ValueError, TypeError, OverflowError):  # btclib's own errors are among these
        raise ValueError("a parent is no transaction") from None
    return {parent.id.hex(): parent for parent in parsed}


def _coin(name: str, parents: Mapping[str, Tx]) -> Coin:
    place = _OUTPOINT.fullmatch(name)
    parent = parents.get(place[1]) if place else None
    if place is None or parent is None or int(place[2]) >= len(parent.vout):
        raise ValueError("an input is an output of one of the parents, txid:index")
    return Coin(place[1], int(place[2]), parent.vout[int(place[2])].value)


def _numbers(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(n, str) and _NUMBER.fullmatch(n) for n in value):
        raise ValueError(f"{name} is made of decimal numbers as strings")
    return tuple(int(each) for each in value)
