"""Which payout providers a deployment has, of its environment; and what is the same for all when one refuses."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.errors import PermanentError, TransientError
from providers.payout import asking, registry
from providers.payout.base import Range
from providers.payout.settings import FlutterwavePayoutSettings

SECRET = "FLWSECK-never-shown"


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registry.reload()
    yield
    monkeypatch.undo()
    registry.reload()


def test_without_credentials_there_is_none() -> None:
    assert dict(registry.providers()) == {}
    with pytest.raises(TransientError, match="'flutterwave'"):  # a deploy may bring them to another process first
        registry.get("flutterwave")
    with pytest.raises(PermanentError, match="'paypal'"):
        registry.get("paypal")


def test_credentials_make_a_provider_and_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYOUT_FLUTTERWAVE_SECRET_KEY", SECRET)
    monkeypatch.setenv("PAYOUT_FLUTTERWAVE_CURRENCIES", '{"iso4217:NGN": [10000, 100000000]}')
    assert list(registry.providers()) == ["flutterwave"]
    provider = registry.get("flutterwave")
    assert (provider.name, registry.get("flutterwave")) == ("flutterwave", provider)
    assert provider.abilities.currencies == {"iso4217:NGN": Range(units_min=10_000, units_max=100_000_000)}


def test_each_name_is_its_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, _ in registry.PROVIDERS.values():
        for credential in kind.credentials:
            monkeypatch.setenv(f"{kind.model_config['env_prefix']}{credential}".upper(), SECRET)
    made = registry.providers()
    assert set(made) == set(registry.PROVIDERS)
    assert {name: provider.name for name, provider in made.items()} == {name: name for name in made}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PAYOUT_FLUTTERWAVE_CURRENCIES", '{"iso4217:XXX": [1, 2]}', "no chains file describes"),
        ("PAYOUT_FLUTTERWAVE_CURRENCIES", '{"iso4217:NGN": [2, 1]}', "the least amount stands before"),
        ("PAYOUT_RAZORPAYX_KEY_ID", SECRET, "set together or not at all"),
        ("PAYOUT_RAZORPAYX_IMPS_MAX", "0", "greater than or equal to 1"),
        ("PAYOUT_FLUTTERWAVE_BASE_URL", "api.flutterwave.com", "pattern"),
    ],
)
def test_what_is_wrong_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said) as raised:
        registry.providers()
    assert SECRET not in str(raised.value)


def test_no_secret_is_shown() -> None:
    settings = FlutterwavePayoutSettings(secret_key=SECRET)
    assert SECRET not in repr(settings) + settings.model_dump_json()
    assert settings.reveal("secret_key") == SECRET
    with pytest.raises(PermanentError, match="PAYOUT_FLUTTERWAVE_SECRET_KEY is not set"):
        FlutterwavePayoutSettings().reveal("secret_key")


def test_no_sdk_is_imported_before_it_is_needed() -> None:
    code = "import sys, providers.payout.registry as r; r.providers(); sys.exit('stripe' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("balance_insufficient", "balance_insufficient"),
        ("fund_account.bank_account.ifsc", "fund_account.bank_account.ifsc"),
        ("metadata[reference]", "metadata[reference]"),
        ("The account of Ada Private is closed", None),
        ("ada@mail.example", None),
        ("0690000031", None),
        ("", None),
        (None, None),
        (["x"], None),
        ("x" * 61, None),
    ],
)
def test_only_codes_are_kept_of_a_refusal(given: object, kept: str | None) -> None:
    assert asking.code(given) == kept
