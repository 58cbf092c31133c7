"""What every chain can be asked to carry. Adapters build on facts of the nodes; what follows for money is the domain's.

An *order* says who gets how much, and never changes. A *version* of it is one signed chain transaction under certain
*terms*: what it uses up, what it may cost, how long it can be taken. All versions of an order exclude each other, on
the chain itself: each two share an input. Where a chain knows no inputs (Solana, Tron) an order has one version, which
ends by time.

A version is stored before it is broadcast, so that to broadcast is to repeat, and nothing of it is ever unknown for
good: it is in a block, or it still can be, or final blocks prove that it never will (`dead`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from core.errors import PermanentError


class OrderRefusedError(PermanentError):
    """The chain can't carry it: nothing was signed for it, and nothing left."""

    def __init__(self, what: Literal["destination", "funds", "order"], why: str) -> None:
        # destination: its recipient can't take it. funds: our wallet has too little. order: it is no order for us.
        super().__init__(why)
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who gets how much. Units are the asset's smallest; addresses as the chain spells them (`chains.formats`)."""

    reference: str
    """Ours, unique for ever, at most 64 of [A-Za-z0-9-]."""
    chain: str
    """CAIP-2."""
    wallet: str
    """The address of ours that pays, and pays the chain's fee."""
    asset: str
    """CAIP-19."""
    to: str
    units: int
    tag: str | None = None
    """A memo, where the chain has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How one version is carried."""

    inputs: tuple[str, ...]
    """What it uses up, spelled as `ChainTx.inputs`: `0x.../7`, `txid:0`. Empty where versions end by time."""
    ends: int | None = None
    """From then on no block takes it. Solana: a block height; Tron: the milliseconds since 1970 of a block's time."""
    fee_max: int
    """Units of the chain's coin that it costs at most."""
    cancels: bool = False
    """It pays nobody: it uses the inputs up so that no other version can be taken any more."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """JSON: what else the chain's signer needs, such as gas and prices. Big integers are strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Signed, and ready to be broadcast any number of times."""

    number: int
    """From 1, within the order."""
    terms: Terms
    chain_tx: str
    """Its id, known before it is broadcast: of what is signed nothing can change any more."""
    raw: str = field(repr=False)
    """In hex."""


class Reception(StrEnum):
    """What a node made of a broadcast. None of it is a proof of anything but the first."""

    TAKEN = "taken"
    """The node has it, also if it had it before."""
    LOW = "low"
    """Its fee is too low for the node, or for what it would replace."""
    LATE = "late"
    """The node says that an input is used up, or that its time is over."""
    REFUSED = "refused"
    """Anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    reception: Reception
    why: str | None = None
    """The node's words, cut and without its URL."""


def together(answers: Iterable[Broadcast]) -> Broadcast:
    """What one broadcast to several nodes came to: one that has it is enough."""
    order = (Reception.TAKEN, Reception.LATE, Reception.LOW, Reception.REFUSED)
    return min(answers, key=lambda answer: order.index(answer.reception))


class ChainSender(Protocol):
    """One chain, written to through one or more nodes. Safe to use from several threads. It holds no key.

    Every method may raise TransientError: the nodes did not answer, or with nonsense.
    """

    id: str
    coin: str
    """The asset in which fees are paid."""

    def terms(self, order: Order, *, reserved: Collection[str]) -> Terms:
        """Of a first version, at what the chain asks for now. Changes nothing anywhere.

        `reserved`: inputs that versions of other orders may use yet. Raises OrderRefusedError.
        """

    def raised(self, order: Order, versions: Sequence[Version]) -> Terms | None:
        """Of a version that outbids all of these and shares an input with each. None: there is no need to, or no way.

        Called when the last of them has waited for long. It adds no input, as the signer binds those for ever and
        the version that is mined may be one without it. Raises OrderRefusedError.
        """

    def cancelling(self, order: Order, versions: Sequence[Version]) -> Terms | None:
        """Of a version that outbids all of these and pays nobody. None: the chain knows no such
        thing, or one is out that pays enough. Raises OrderRefusedError.
        """

    def broadcast(self, version: Version) -> Broadcast:
        """Give it to the nodes; to all that answer, so that the loss of one is none of it."""

    def costs(self, chain_txs: Collection[str]) -> Mapping[str, int]:
        """Units of `coin` that those which are in a block cost our wallet beside what they moved. Others are absent."""

    def dead(self, versions: Sequence[Version]) -> bool:
        """Whether final blocks prove that none of these is in a block or will ever be.

        One endpoint is asked for both, so that no two points of view are mixed; where the chain has endpoints of
        different hosts, two of them must prove it. False: not proven.
        """

    def balance(self, wallet: str, asset: str) -> int:
        """Units that the wallet has, as the newest block says."""
