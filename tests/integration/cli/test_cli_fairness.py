"""`tallyrail fairness`: anybody's check, and what an operator may see and do."""

import json
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from config import settings
from core import db
from domain.fairness import service as fairness
from domain.fairness.outcomes import Game, outcome, seed_hash
from domain.fairness.sealing import Sealed, key_id, opened
from tests.integration.cli.conftest import Cli

OLD_KEY, NEW_KEY = "0d" * 32, "0e" * 32
# From docs/fairness.md: a seed that is nobody's.
SEED, LUCK = "18e93f4a7b5b58d2569765766d1b6c3296bbd8430d6f20249044d72f14720159", "my-luck"
UseKeys = Callable[..., None]


@pytest.fixture(autouse=True)
def use_keys(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseKeys]:
    def use(*keys: str) -> None:
        monkeypatch.setenv("FAIRNESS_KEYS", json.dumps(keys))
        settings.reload()

    use(OLD_KEY)
    yield use
    monkeypatch.undo()
    settings.reload()


def begin(owner: str = "42") -> None:
    with db.transaction() as session:
        fairness.commit(session, "casino", owner)
        fairness.rotate(session, "casino", owner, client_seed=LUCK)


def hidden() -> list[str]:
    with db.transaction() as session:
        return [
            opened(seed.id, seed.tenant, Sealed(seed.sealed, seed.sealed_by), seed.seed_hash)
            for seed in fairness.seeds(session)
            if seed.state != "revealed"
        ]


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_draw_is_verified_without_any_server(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "FAIRNESS_KEYS"):
        monkeypatch.delenv(name)
    settings.reload()
    told = cli("fairness", "verify", SEED, LUCK, 7, "dice", "--seed-hash", seed_hash(SEED)).stdout
    roll = int(str(outcome(SEED, LUCK, 7, Game.DICE, {})["roll"]))
    assert f"a roll of {roll // 100}.{roll % 100:02}" in told
    assert "is the one whose hash was shown" in told
    assert "crash at " in cli("fairness", "verify", SEED, LUCK, 7, "crash", "--edge-bps", 100).stdout
    assert "Compare" in cli("fairness", "verify", SEED, LUCK, 7, "mines", "--mines", 3).stdout
    made = json.loads(cli("fairness", "verify", SEED, LUCK, 7, "plinko", "--rows", 16, "--json").stdout)
    assert made["outcome"] == outcome(SEED, LUCK, 7, Game.PLINKO, {"rows": 16}) and made["hash_fits"] is None


def test_what_does_not_fit_is_a_sentence_and_exit_status_1(cli: Cli) -> None:
    check = ("fairness", "verify", SEED, LUCK, 7, "dice")
    wrong = cli(*check, "--seed-hash", "00" * 32, status=1).stdout
    assert "is NOT the one whose hash was shown" in wrong
    roll = int(str(outcome(SEED, LUCK, 7, Game.DICE, {})["roll"]))
    right = json.dumps({"roll": roll})
    assert "outcome is the one that was told" in cli(*check, "--outcome", right).stdout
    both = cli(*check, "--outcome", json.dumps({"roll": roll ^ 1}), "--seed-hash", seed_hash(SEED), status=1).stdout
    assert "is the one whose hash" in both and "outcome is NOT the one" in both
    assert json.loads(cli(*check, "--seed-hash", "00" * 32, "--json", status=1).stdout)["hash_fits"] is False


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (("short", LUCK, 7, "dice"), 1, "64 hexadecimal digits"),
        ((SEED, "a:b", 7, "dice"), 1, "no colons"),
        ((SEED, LUCK, 2**63, "dice"), 1, "nonce"),
        ((SEED, LUCK, 7, "mines"), 1, "mines"),
        ((SEED, LUCK, 7, "dice", "--rows", 8), 1, "has none"),
        ((SEED, LUCK, 7, "roulette"), 2, "roulette"),
        ((SEED, LUCK, 7, "dice", "--outcome", "7"), 2, "no outcome"),
    ],
)
def test_what_can_not_be_verified_is_said(cli: Cli, arguments: tuple[object, ...], status: int, word: str) -> None:
    assert word in cli("fairness", "verify", *arguments, status=status).stderr


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_seeds_are_listed_by_hash_and_revealed_only_on_request(cli: Cli) -> None:
    assert "no such seeds" in cli("fairness", "seeds").stdout
    begin()
    begin("43")
    rotated = json.loads(cli("fairness", "rotate", "42", "--tenant", "casino", "--commit", "--json").stdout)
    shown = rotated["revealed"]["server_seed"]
    assert seed_hash(shown) == rotated["revealed"]["seed_hash"]
    listed = cli("fairness", "seeds", columns=400).stdout
    assert rotated["active"]["seed_hash"] in listed and shown not in listed
    with_texts = cli("fairness", "seeds", "--reveal", columns=400).stdout
    assert shown in with_texts
    pages = [json.loads(cli("fairness", "seeds", "--reveal", "--limit", 3, "--json").stdout)]
    pages.append(
        json.loads(cli("fairness", "seeds", "--limit", 3, "--cursor", pages[0]["next_cursor"], "--json").stdout)
    )
    assert [len(page["seeds"]) for page in pages] == [3, 2] and pages[1]["next_cursor"] is None
    only = json.loads(cli("fairness", "seeds", "--owner", "43", "--state", "active", "--json").stdout)["seeds"]
    assert [(seed["owner"], seed["client_seed"], seed["nonces"]) for seed in only] == [("43", LUCK, 0)]
    everything = listed + with_texts + json.dumps(pages) + json.dumps(rotated)
    assert [secret for secret in hidden() if secret in everything] == []


def test_a_rotation_is_a_plan_until_it_is_committed(cli: Cli) -> None:
    begin()
    with db.transaction() as session:
        fairness.draw(session, "casino", "42", Game.DICE, {}, count=9)
        before = fairness.seeds_of(session, "casino", "42")
    assert before.active is not None
    asked = ("fairness", "rotate", "42", "--tenant", "casino", "--client-seed", "other")
    plan = cli(*asked).stdout
    assert "Nothing was done" in plan and before.active.seed_hash in plan and before.committed.seed_hash in plan
    assert [secret for secret in hidden() if secret in plan] == []
    [shown, coming] = hidden_of(before.active.seed_hash), before.committed.seed_hash
    done = cli(*asked, "--commit").stdout
    assert "Rotated." in done and shown in done and coming in done and "other" in done and "9" in done
    assert "no seed is committed to" in cli("fairness", "rotate", "nobody", "--tenant", "casino", status=1).stderr


def hidden_of(hash_shown: str) -> str:
    return next(secret for secret in hidden() if seed_hash(secret) == hash_shown)


def test_seeds_are_sealed_anew_so_that_an_old_key_can_go(cli: Cli, use_keys: UseKeys) -> None:
    begin()
    use_keys(NEW_KEY, OLD_KEY)
    assert "2 seeds are sealed by another key" in cli("fairness", "reseal").stdout
    assert "Of 2 seeds that another key had sealed, 0 are not" in cli("fairness", "reseal", "--commit").stdout
    use_keys(NEW_KEY)
    sealed = json.loads(cli("fairness", "seeds", "--json").stdout)["seeds"]
    assert {seed["sealed_by"] for seed in sealed} == {key_id(bytes.fromhex(NEW_KEY))}
    assert "Rotated." in cli("fairness", "rotate", "42", "--tenant", "casino", "--commit").stdout


def test_a_seed_that_can_not_be_opened_holds_up_no_other(cli: Cli, use_keys: UseKeys) -> None:
    for owner in ("1", "2", "3"):
        begin(owner)
    with db.transaction() as session:
        session.execute(text("UPDATE fairness_seeds SET sealed = '\\x00' WHERE owner = '2' AND state = 'active'"))
    use_keys(NEW_KEY, OLD_KEY)
    result = cli("fairness", "reseal", "--commit", status=1)
    assert "Of 6 seeds that another key had sealed, 1 are not" in result.stdout and "can't be opened" in result.stderr


def test_a_key_that_is_none_is_named_and_not_shown(cli: Cli, use_keys: UseKeys) -> None:
    for wrong in (("0d" * 31,), ("zz" * 32,), ()):
        use_keys(*wrong)
        said = cli("fairness", "reseal", status=1).stderr
        assert "FAIRNESS_KEYS" in said
        assert all(key not in said for key in wrong)
