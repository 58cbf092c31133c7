"""What each decision does to the books. Pure: from facts to a journal, without a clock.

loaded      capture of the hold: available -> playing     (ledger.holds)
reserved    playing -> staked
settled     staked -> house:bets (the stake), house:bets -> playing (the payout, unless 0): one journal
voided      staked -> playing
unloaded    playing -> available

A bet's references name its player: two players may give their bets the same id, and neither must spoil the other's.
"""

from uuid import UUID

from domain.bet.players import Player
from ledger import chart
from ledger.posting import Journal, Posting


def reserved(who: Player, bet_id: str, stake: int) -> Journal:
    return _bet(who, bet_id, "reserved", _move(who, chart.playing(who.user), chart.staked(who.user), stake))


def settled(who: Player, bet_id: str, stake: int, payout: int) -> Journal:
    moves = [_move(who, chart.staked(who.user), chart.bets(), stake)]
    if payout:
        moves.append(_move(who, chart.bets(), chart.playing(who.user), payout))
    return _bet(who, bet_id, "settled", *moves)


def voided(who: Player, bet_id: str, stake: int) -> Journal:
    return _bet(who, bet_id, "voided", _move(who, chart.staked(who.user), chart.playing(who.user), stake))


def unloaded(who: Player, unload_id: str, units: int) -> Journal:
    return Journal(
        tenant=who.tenant,
        reference=f"hot-unload:{unload_id}",
        category="bet.unloaded",
        postings=[_move(who, chart.playing(who.user), chart.user_available(who.user), units)],
        subject=f"hot-unload:{unload_id}",
    )


def hold_reference(load_id: UUID) -> str:
    """Of the hold that a load rests on; its capture has the same."""
    return f"hot-load:{load_id}"


def _bet(who: Player, bet_id: str, what: str, *moves: Posting) -> Journal:
    return Journal(
        tenant=who.tenant,
        reference=f"bet:{bet_id}:{who.name}:{what}",
        category=f"bet.{what}",
        postings=moves,
        subject=f"bet:{bet_id}",
    )


def _move(who: Player, source: str, destination: str, units: int) -> Posting:
    return Posting(source=source, destination=destination, asset=who.asset, units=units)
