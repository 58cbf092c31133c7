"""The signer's files: a keystore that only its passphrase opens, a policy in which no word is ignored."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from cli.main import app
from signer import keys, policy, settings, signing
from signer.errors import BootError, RefusedError
from tests.support.signer import COST
from tests.unit.test_signer_evm import ORDER

PASSPHRASE = "correct horse battery"
SECRET = bytes.fromhex("46" * 32)
WALLET = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
COIN = "eip155:1/slip44:60"


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "keystore.json"
    keys.add(path, PASSPHRASE, "hot", "eip155", SECRET, cost=COST)
    keys.add(path, PASSPHRASE, "cold", "tron", b"\x01" * 32)
    return path


def test_a_keystore_gives_back_what_was_put_in_and_shows_none_of_it(keystore: Path) -> None:
    assert keys.read(keystore, PASSPHRASE) == {
        "hot": keys.Key("eip155", SECRET),
        "cold": keys.Key("tron", b"\x01" * 32),
    }
    assert keystore.stat().st_mode & 0o777 == 0o600
    assert SECRET.hex() not in keystore.read_text() and SECRET.hex() not in repr(keys.read(keystore, PASSPHRASE))
    assert [path.name for path in keystore.parent.iterdir()] == ["keystore.json"]


def test_no_other_passphrase_opens_it_or_adds_to_it(keystore: Path) -> None:
    before = keystore.read_bytes()
    with pytest.raises(BootError, match="passphrase is wrong"):
        keys.read(keystore, "correct horse battery ")
    with pytest.raises(BootError, match="passphrase is wrong"):
        keys.add(keystore, "another passphrase", "third", "eip155", SECRET)
    with pytest.raises(BootError, match="none is ever replaced"):
        keys.add(keystore, PASSPHRASE, "hot", "eip155", b"\x02" * 32)
    assert keystore.read_bytes() == before


@pytest.mark.parametrize("what", ["namespace", "sealed", "nonce", "swapped", "renamed", "salt", "cost", "format"])
def test_a_keystore_that_was_changed_is_not_used(keystore: Path, what: str) -> None:
    content = json.loads(keystore.read_text())
    hot = content["keys"]["hot"]
    match what:
        case "namespace":
            hot["namespace"] = "tron"
        case "sealed" | "nonce":
            hot[what] = hot[what][:-2] + f"{int(hot[what][-2:], 16) ^ 1:02x}"
        case "swapped":
            content["keys"] = {"hot": content["keys"]["cold"] | {"namespace": "eip155"}, "cold": hot}
        case "renamed":
            content["keys"] = {"warm": hot}
        case "salt":
            content["scrypt"]["salt"] = "00" * 32
        case "cost":
            content["scrypt"]["n"] *= 2
        case "format":
            content["format"] = 2
    keystore.write_text(json.dumps(content))
    with pytest.raises(BootError):
        keys.read(keystore, PASSPHRASE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_keystore_that_others_can_read_or_write_is_not_used(keystore: Path, mode: int) -> None:
    keystore.chmod(mode)
    with pytest.raises(BootError, match="open to others"):
        keys.read(keystore, PASSPHRASE)


def test_keys_that_are_added_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keystore.json"
    threads = [
        threading.Thread(
            target=keys.add,
            args=(path, PASSPHRASE, f"key-{number}", "eip155", bytes([number + 1]) * 32),
            kwargs={"cost": COST},
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys.read(path, PASSPHRASE)) == 8


POLICY = f"""
[wallets.main]
chain = "eip155:1"
key = "hot"
fee_max = "100"
fee_day_max = "1000"
[wallets.main.assets."{COIN}"]
each_max = "10"
day_max = "115792089237316195423570985008687907853269984665640564039457584007913129639935"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_a_policy_is_read_with_limits_of_any_size(tmp_path: Path) -> None:
    wallet = policy.read(written(tmp_path, POLICY)).by_chain["eip155:1"]
    assert wallet.destinations is None
    assert wallet.assets[COIN].day_max == 2**256 - 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[wallets.main]", "limits = 1\n[wallets.main]"),
        ('key = "hot"', 'key = "hot"\nfee_dey_max = "1"'),
        ('each_max = "10"', 'each_max = "10"\nweek_max = "1"'),
        ('each_max = "10"', "each_max = 10"),
        ('each_max = "10"', 'each_max = "1e3"'),
        ('each_max = "10"', f'each_max = "{2**256}"'),
        ('each_max = "10"', ""),
        ('fee_max = "100"', 'fee_max = "1001"'),
        ('fee_day_max = "1000"', ""),
        ('chain = "eip155:1"', 'chain = "eip155:10"'),
        ('chain = "eip155:1"', 'chain = "aptos:1"'),
        ('key = "hot"', 'key = "hot"\ndestinations = ["0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f"]'),
        ('key = "hot"', 'key = "hot"\ndestinations = ["nowhere"]'),
        ('key = "hot"', f'key = "hot"\ndestinations = "{WALLET}"'),
        (POLICY, ""),
        (POLICY, POLICY + POLICY.replace("main", "other")),
        ("[wallets.main]", "[wallets.main"),
    ],
)
def test_a_policy_with_anything_odd_stops_the_start(tmp_path: Path, before: str, after: str) -> None:
    assert before in POLICY
    with pytest.raises(BootError):
        policy.read(written(tmp_path, POLICY.replace(before, after)))


def test_a_policy_that_others_can_write_stops_the_start(tmp_path: Path) -> None:
    path = written(tmp_path, POLICY)
    path.chmod(0o664)
    with pytest.raises(BootError, match="open to others"):
        policy.read(path)


def test_a_wallet_without_its_key_or_with_one_of_another_kind_stops_the_start(tmp_path: Path) -> None:
    rules = policy.read(written(tmp_path, POLICY))
    assert signing.wallets(rules, {"hot": keys.Key("eip155", SECRET)})["eip155:1"].address == WALLET
    for found in ({}, {"hot": keys.Key("tron", SECRET)}, {"hot": keys.Key("eip155", b"\0" * 32)}):
        with pytest.raises(BootError):
            signing.wallets(rules, found)


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        ("eip155:1", "eip155:10", True),
        ("bip122:000000000019d6689c085ae165831e93", "bip122:0f9188f13cb7b2c71f2a335e3a4fc328", False),
        ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", False),
        ("tron:728126428", "tron:2494104990", False),
    ],
)
def test_a_key_is_for_one_network_where_signatures_don_t_name_theirs(
    tmp_path: Path, first: str, second: str, fits: bool
) -> None:
    def wallet(name: str, chain: str) -> str:
        return POLICY.replace("main", name).replace("eip155:1", chain).replace('"hot"', f'"{name}"')

    rules = policy.read(written(tmp_path, wallet("one", first) + wallet("two", second)))
    namespace = first.partition(":")[0]
    alike = {name: keys.Key(namespace, SECRET) for name in ("one", "two")}
    if fits:
        assert signing.wallets(rules, alike).keys() == {first, second}
    else:
        with pytest.raises(BootError, match="good here"):
            signing.wallets(rules, alike)
    own = alike | {"two": keys.Key(namespace, b"\x01" * 32)}
    assert signing.wallets(rules, own).keys() == {first, second}


def test_commands_make_import_and_show_keys_and_never_print_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys.add, "__kwdefaults__", {"cost": COST})
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(f"{PASSPHRASE}\n")
    passphrase.chmod(0o604)
    for name in ("KEYSTORE", "POLICY", "JOURNAL"):
        monkeypatch.setenv(f"SIGNER_{name}", str(tmp_path / "kept" / name.lower()))
    monkeypatch.setenv("SIGNER_PASSPHRASE_FILE", str(passphrase))
    settings.reload()

    def ran(*words: str, said: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["signer", *words], input=said)
        assert SECRET.hex() not in result.output and PASSPHRASE not in result.output
        return result.exit_code, result.output

    try:
        assert ran("new-wallet", "hot", "--namespace", "eip155")[0] == 1  # everybody can read the passphrase
        passphrase.chmod(0o640)
        assert ran("new-wallet", "cold", "--namespace", "eip155")[0] == 0
        code, shown = ran("import-wallet", "hot", "--namespace", "eip155", said=f"0x{SECRET.hex()}\n")
        assert code == 0 and WALLET in shown
        for wrong in ("zz\n", "00" * 32 + "\n", "", "46" * 31 + "\n"):
            assert ran("import-wallet", "other", "--namespace", "eip155", said=wrong)[0] == 1
        assert ran("new-journal")[0] == 0
        assert ran("new-journal")[0] == 1
        written(tmp_path, POLICY).rename(tmp_path / "kept" / "policy")
        code, shown = ran("addresses", "--json")
        rows = {row["key"]: row for row in json.loads(shown)["addresses"]}
        assert code == 0 and rows.keys() == {"hot", "cold"}
        assert (rows["hot"]["address"], rows["hot"]["wallet"]) == (WALLET, "main")
    finally:
        settings.reload()


@pytest.mark.parametrize("token", [None, "", "x" * 31, "ö" * 32, "x" * 20 + " " + "x" * 20])
def test_there_is_no_signer_without_a_good_token(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    monkeypatch.delenv("SIGNER_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("SIGNER_TOKEN", token)
    with pytest.raises((BootError, ValidationError)) as caught:
        settings.SignerSettings().reveal_token()
    assert not token or token not in str(caught.value)
    monkeypatch.setenv("SIGNER_TOKEN", "x" * 32)
    assert settings.SignerSettings().reveal_token() == "x" * 32


def test_what_is_not_listed_is_refused(tmp_path: Path) -> None:
    text = POLICY.replace('key = "hot"', f'key = "hot"\ndestinations = ["{WALLET}"]')
    wallet = policy.read(written(tmp_path, text)).by_chain["eip155:1"]

    def code(**changed: object) -> str:
        with pytest.raises(RefusedError) as caught:
            wallet.check(replace(ORDER, **{"to": WALLET, "units": 10, **changed}))  # type: ignore[arg-type]
        return caught.value.code

    assert wallet.check(replace(ORDER, to=WALLET, units=10)).each_max == 10
    assert code(asset="eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7") == "asset"
    assert code(to=ORDER.to) == "destination"
    assert code(to=WALLET.lower()) == "destination"
    assert code(units=11) == "each_max"
