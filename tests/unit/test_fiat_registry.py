"""Which gateways a deployment has, of its environment."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.errors import PermanentError, TransientError
from providers.fiat import fields, registry
from providers.fiat.base import Range
from providers.fiat.settings import RazorpaySettings, StripeSettings

SECRET = "sk_live_never_shown"


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registry.reload()
    yield
    monkeypatch.undo()
    registry.reload()


def test_without_credentials_there_is_none() -> None:
    assert dict(registry.gateways()) == {}
    with pytest.raises(TransientError, match="'stripe'"):  # a deploy may bring them to another process first
        registry.get("stripe")
    with pytest.raises(PermanentError, match="'paypal'"):
        registry.get("paypal")


def test_credentials_make_a_gateway_and_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAT_STRIPE_SECRET_KEY", SECRET)
    monkeypatch.setenv("FIAT_STRIPE_CURRENCIES", '{"iso4217:EUR": [50, 100000]}')
    assert list(registry.gateways()) == ["stripe"]
    gateway = registry.get("stripe")
    assert (gateway.name, registry.get("stripe")) == ("stripe", gateway)
    assert gateway.abilities.currencies == {"iso4217:EUR": Range(units_min=50, units_max=100_000)}


def test_each_name_is_its_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, _ in registry.GATEWAYS.values():
        for credential in kind.credentials:
            monkeypatch.setenv(f"{kind.model_config['env_prefix']}{credential}".upper(), SECRET)
    made = registry.gateways()
    assert set(made) == set(registry.GATEWAYS)
    assert {name: gateway.name for name, gateway in made.items()} == {name: name for name in made}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FIAT_RAZORPAY_KEY_ID", SECRET, "set together or not at all"),
        ("FIAT_STRIPE_CURRENCIES", '{"iso4217:XXX": [1, 2]}', "no chains file describes"),
        ("FIAT_STRIPE_CURRENCIES", '{"iso4217:USD": [2, 1]}', "the least amount stands before"),
        ("FIAT_STRIPE_CURRENCIES", '{"iso4217:USD": [0, 1]}', "greater than or equal to 1"),
        ("FIAT_STRIPE_BASE_URL", "api.stripe.com", "pattern"),
    ],
)
def test_what_is_half_set_or_wrong_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said) as raised:
        registry.gateways()
    assert SECRET not in str(raised.value)


def test_no_secret_is_shown() -> None:
    settings = [StripeSettings(secret_key=SECRET), RazorpaySettings(key_id="a", key_secret=SECRET)]
    assert SECRET not in repr(settings) + str([each.model_dump_json() for each in settings])
    assert settings[0].reveal("secret_key") == SECRET
    with pytest.raises(PermanentError, match="FIAT_STRIPE_SECRET_KEY is not set"):
        StripeSettings().reveal("secret_key")


def test_no_sdk_is_imported_before_it_is_needed() -> None:
    code = "import sys, providers.fiat.registry as r; r.gateways(); sys.exit('stripe' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("amount_too_small", "At least $0.50"), "amount_too_small: At least $0.50"),
        (("bad", "The email ada@mail.example is invalid"), "bad: The email … is invalid"),
        (("bad", "No such number: +1 (555) 019-9901."), "bad: No such number: …."),
        (("bad", "card 4242 4242 4242 4242 declined"), "bad: card … declined"),
        ((None, ""), "no reason given"),
        (("x" * 5_000,), "x" * 300),
    ],
)
def test_why_says_nothing_of_payers(words: tuple[object, ...], said: str) -> None:
    assert fields.why(*words) == said
