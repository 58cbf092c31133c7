"""docs/fairness.md has a program for players. It draws what we draw."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.fairness import outcomes
from domain.fairness.outcomes import Game
from domain.fairness.states import SEED

PAGE = (Path(__file__).parent.parent.parent / "docs/fairness.md").read_text()
PARAMS: list[tuple[Game, dict[str, int]]] = [
    (Game.DICE, {}),
    *((Game.CRASH, {"edge_bps": edge}) for edge in (0, 100, 300, 9_999)),
    *((Game.MINES, {"mines": mines}) for mines in range(1, 25)),
    *((Game.PLINKO, {"rows": rows}) for rows in range(8, 17)),
]


@pytest.fixture(scope="module")
def drawn() -> Callable[..., Any]:
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    made: Callable[..., Any] = names["draw"]
    return made


@given(
    seed=st.binary(min_size=32, max_size=32),
    luck=st.from_regex(r"[!-9;-~]{1,64}", fullmatch=True),
    nonce=st.integers(0),
)
def test_the_program_of_the_page_draws_what_we_draw(
    drawn: Callable[..., Any], seed: bytes, luck: str, nonce: int
) -> None:
    for game, params in PARAMS:
        assert drawn(seed.hex(), luck, nonce, game.value, params) == outcomes.outcome(
            seed.hex(), luck, nonce, game, params
        )


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    assert f"{2**32 % outcomes.ROLLS:,} are passed by" in PAGE
    assert f"`edge_bps`, 0 to 9,999, in hundredths of a percent; {outcomes.EDGE_BPS}" in PAGE
    assert max(2**32 % left for left in range(2, 26)) <= 24
    assert SEED.mermaid() in PAGE
