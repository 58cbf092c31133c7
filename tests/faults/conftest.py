from collections.abc import Iterator

import pytest

from local.postgres import Postgres
from tests.conformance.conftest import opened
from tests.conformance.lab import Lab
from tests.conformance.till import Till
from tests.conftest import fresh_database
from tests.faults.script import Outcome, Script, sound
from tests.support.jobs import marks, probe_table, submit

__all__ = ["marks", "probe_table", "submit"]


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


_EXPECTED: dict[str, Outcome] = {}


@pytest.fixture
def expected(lab: Lab, database_url: str, postgres: Postgres, template: str) -> Outcome:
    """What an undisturbed run comes to. Once for each kind of chain."""
    if lab.chain not in _EXPECTED:
        with fresh_database(postgres, template):
            script = Script(Till(lab, sound(lab)), lab)
            for _ in script.steps():
                script.till.work()
            script.till.work()
            script.till.close()
            _EXPECTED[lab.chain] = outcome = script.outcome()
            states = {row[0]: (row[3], row[4]) for row in outcome.deposits}
            assert states == {
                "first": ("credited", None),
                "by hash": ("credited", None),
                "token": ("credited", None),
                "again": ("suspended", "unexpected"),
                "not to us": ("rejected", "wrong_recipient"),
                "short": ("suspended", "underpaid"),
                None: ("watching", None),
            }
            assert len(outcome.covered) == 1 and outcome.covered[0][0] == 0 and outcome.last_is_true
    return _EXPECTED[lab.chain]
