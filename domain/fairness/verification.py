"""What anybody can check for himself: pure, without our database and without keys."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import InvalidRequestError
from domain.fairness import outcomes
from domain.fairness.outcomes import Game, Outcome

_HEX = re.compile(r"[0-9a-f]{64}")
NONCE_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Verdict:
    seed_hash: str
    """Of the server seed that was given."""
    hash_fits: bool | None
    """Whether it is the hash that was shown before; None: none was given."""
    outcome: Outcome
    outcome_fits: bool | None
    """Whether it is the outcome that was told; None: none was given."""

    @property
    def fits(self) -> bool:
        return self.hash_fits is not False and self.outcome_fits is not False


def verify(
    *,
    server_seed: str,
    client_seed: str,
    nonce: int,
    game: Game,
    params: Mapping[str, int],
    seed_hash: str | None = None,
    outcome: Mapping[str, object] | None = None,
) -> Verdict:
    """Do the draw again. Raises InvalidRequestError for what can't be a seed, a hash, a nonce or a parameter."""
    for field, text in (("server_seed", server_seed), ("seed_hash", seed_hash)):
        if text is not None and not _HEX.fullmatch(text):
            raise InvalidRequestError(f"a {field} is 64 hexadecimal digits in lower case", field=field)
    outcomes.check_client_seed(client_seed)
    if not 0 <= nonce <= NONCE_MAX:
        raise InvalidRequestError(f"a nonce is from 0 to {NONCE_MAX}", field="nonce")
    hashed = outcomes.seed_hash(server_seed)
    made = outcomes.outcome(server_seed, client_seed, nonce, game, params)
    return Verdict(
        seed_hash=hashed,
        hash_fits=None if seed_hash is None else hashed == seed_hash,
        outcome=made,
        outcome_fits=None if outcome is None else made == dict(outcome),
    )
