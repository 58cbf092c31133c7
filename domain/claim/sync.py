"""What the sync process needs of packets: the scripts of a generation, and how their events get into the books."""

import re
from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID

from sqlalchemy.orm import Session

from core.hot.events import Event, Refused
from domain.claim import books
from domain.claim.books import Decision, End, Win
from domain.claim.hot import NAME, SCRIPTS, ms_of, time_of
from domain.claim.states import Reason

__all__ = ["SCRIPTS", "apply"]

_id = lru_cache(maxsize=4_096)(UUID)  # thousands of events name the same packet
_NUMBER = re.compile(r"[0-9]{1,38}")


def apply(session: Session, events: Sequence[Event]) -> list[Refused]:
    """Write what the events say. Those that are returned are a person's to mend; applied again, they are tried again.

    A claim that can't be booked is kept as decided, since its winner was answered; no money has moved for it.
    """
    decisions: dict[int, Decision] = {}
    refused: list[Refused] = []
    for place, event in enumerate(events):
        decision = parse(event)
        if decision is None:
            refused.append(Refused(event, "the event can't be understood"))
        else:
            decisions[place] = decision
    wins = [each for each in decisions.values() if isinstance(each, Win)]
    ends = [each for each in decisions.values() if isinstance(each, End)]
    problems = books.write(session, wins, ends)
    refused += [
        Refused(events[place], problems[decision]) for place, decision in decisions.items() if decision in problems
    ]
    return refused


def parse(event: Event) -> Decision | None:
    """None if it is not one of ours."""
    try:
        match event.kind, event.fields:
            case "claim.won", (packet, claimant, place, units, ms) if NAME.fullmatch(claimant):
                seq = event.seq or None
                at = time_of(_number(ms))
                return Win(_id(packet), claimant, _number(place), _number(units), at, event.generation, seq)
            case "claim.closed", (packet, left, why, ms) if _number(left):
                return End(_id(packet), Reason(why), time_of(_number(ms)))
    except (ValueError, OverflowError):
        return None
    return None


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        raise ValueError(f"{text[:80]!r} is no number")
    return int(text)


def event_text(decision: Decision) -> str:
    """As the scripts write it; how many shares were left is not read again."""
    ms = ms_of(decision.at)
    if isinstance(decision, End):
        return f"claim.closed {decision.packet_id} 1 {decision.why} {ms}"
    return f"claim.won {decision.packet_id} {decision.claimant} {decision.place} {decision.units} {ms}"
