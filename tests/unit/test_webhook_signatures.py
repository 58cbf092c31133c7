"""Whether webhooks are from whom they say, by what others say of the schemes.

Vectors from outside, each with its source; those of tests/support/webhook_fixtures.py have it there:
- stripe: the official library (stripe-python, installed) signs and verifies beside ours.
- razorpay: a webhook of the official SDK's tests, and the text, secret and signature of
  test_verify_payment_signature in razorpay-python's tests/test_client_utility.py; RFC 4231, test cases 2 and 4.
- unlimit: callbacks of the official SDK's tests; FIPS 180's examples `abc` and the one of 896 bits, cut into body and
  secret.
- flutterwave: header and body of the official plugin's test. There is nothing to compute: the header is the secret.
- alchemy_pay: nobody shows a webhook with its secret. So in parts: the text that is signed is that of their page, byte
  for byte; a signature of such a text, of a query, is a stranger's test; and those of webhooks below are made by
  another library (PyCryptodome) and by other means than the code's.
"""

import hmac
import json
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import stripe
from Crypto.Hash import HMAC, SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.fiat import alchemy_pay as alchemy_pay_gateway
from providers.fiat.registry import GATEWAYS
from providers.payout.registry import PROVIDERS
from providers.webhooks import alchemy_pay
from providers.webhooks.base import ForgedError, Genuine
from providers.webhooks.registry import schemes
from tests.support import webhook_fixtures as fixtures

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PATH = "/v1/webhooks/alchemy_pay"


@dataclass(frozen=True)
class Vector:
    provider: str
    body: bytes
    headers: Mapping[str, str]
    secret: bytes
    signature: str
    """The header that has it; empty: it is in the body."""
    event_id: str | None = None
    at: datetime = NOW
    others: tuple[str, ...] = field(default=())
    """Other headers that have to be there."""

    def check(self, **changed: object) -> Genuine:
        parts = {"body": self.body, "headers": self.headers, "secrets": [self.secret], "at": self.at} | changed
        return schemes()[self.provider].check(*parts.values())  # type: ignore[arg-type]


def _stripe(body: str, secret: str, at: datetime = NOW) -> dict[str, str]:
    """As the official library signs."""
    made = stripe.WebhookSignature.generate_signature_header(body, secret, int(at.timestamp()))
    return {"stripe-signature": made}


STRIPE_BODY = '{"id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "object": "event", "livemode": false}'
# https://alchemypay.readme.io/docs/webhook: such members, those that are empty among them.
ALCHEMY_MEMBERS = {
    "orderNo": "1022000000000000001", "amount": "15.00", "message": "", "fiat": "USD", "status": "PAY_SUCCESS",
    "merchantOrderNo": "pay-1", "payTime": "2026-11-21 11:59:27", "txHash": None, "signature": "f13fb8137f2c",
}  # fmt: skip
ALCHEMY_TIME = "1795262400000"


def _alchemy(members: Mapping[str, object], secret: bytes, *, path: str = PATH) -> bytes:
    """By their page, with everything parsed and written anew."""
    signed = {name: value for name, value in sorted(members.items()) if value and "ignature" not in name}
    text = f"{ALCHEMY_TIME}POST{path}{json.dumps(signed, separators=(',', ':'), ensure_ascii=False)}"
    made = b64encode(HMAC.new(secret, text.encode(), SHA256).digest()).decode()
    return json.dumps({**members, "newSignature": made}, ensure_ascii=False).encode()


VECTORS = {
    "stripe": Vector(
        "stripe", STRIPE_BODY.encode(), _stripe(STRIPE_BODY, "whsec_test_secret"), b"whsec_test_secret",
        "stripe-signature", "evt_1NG8Du2eZvKYlo2CUI79vXWy",
    ),
    "razorpay-python": Vector(
        "razorpay", b"fake_order_id|fake_payment_id",
        {"x-razorpay-signature": "b2335e3b0801106b84a7faff035df56ecffde06918c9ddd1f0fafbb37a51cc89"},
        b"key_secret", "x-razorpay-signature",
    ),
    "razorpay, RFC 4231": Vector(
        "razorpay", b"what do ya want for nothing?",
        {"x-razorpay-signature": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        b"Jefe", "x-razorpay-signature",
    ),
    "razorpay, RFC 4231 with bytes": Vector(
        "razorpay", b"\xcd" * 50,
        {"x-razorpay-signature": "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
        bytes(range(1, 26)), "x-razorpay-signature",
    ),
    "razorpayx, RFC 4231": Vector(
        "razorpayx", b"what do ya want for nothing?",
        {"x-razorpay-signature": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        b"Jefe", "x-razorpay-signature",
    ),
    "unlimit, FIPS 180": Vector(
        "unlimit", b"ab",
        {"signature": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                      "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
        b"c", "signature",
    ),
    "unlimit, FIPS 180, two blocks": Vector(
        "unlimit", b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr",
        {"signature": "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
                      "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"},
        b"lmnopqrsmnopqrstnopqrstu", "signature",
    ),
    "razorpay-python, webhook": Vector(
        "razorpay", fixtures.RAZORPAY_PAYMENT, {"x-razorpay-signature": fixtures.RAZORPAY_SIGNED},
        fixtures.RAZORPAY_SECRET, "x-razorpay-signature",
    ),
    "java-sdk-v3, payment": Vector(
        "unlimit", fixtures.UNLIMIT_PAYMENT, {"signature": fixtures.UNLIMIT_PAYMENT_SIGNED}, fixtures.UNLIMIT_SECRET,
        "signature",
    ),
    "java-sdk-v3, refund": Vector(
        "unlimit", fixtures.UNLIMIT_REFUND, {"signature": fixtures.UNLIMIT_REFUND_SIGNED}, fixtures.UNLIMIT_SECRET,
        "signature",
    ),
    "Woocommerce": Vector(
        "flutterwave", fixtures.FLUTTERWAVE_CHARGE, {"verif-hash": fixtures.FLUTTERWAVE_SECRET.decode()},
        fixtures.FLUTTERWAVE_SECRET, "verif-hash",
    ),
    "alchemy_pay": Vector(
        "alchemy_pay", _alchemy(ALCHEMY_MEMBERS, b"app-secret"), {"timestamp": ALCHEMY_TIME, ":path": PATH},
        b"app-secret", "", others=("timestamp", ":path"),
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
SIGNED = pytest.mark.parametrize(
    "vector",
    [one for one in VECTORS.values() if schemes()[one.provider].signs_body],
    ids=[name for name, one in VECTORS.items() if schemes()[one.provider].signs_body],
)


def test_every_scheme_has_a_vector_and_only_one_signs_no_body() -> None:
    assert {vector.provider for vector in VECTORS.values()} == set(schemes()) == {*GATEWAYS, *PROVIDERS}
    assert {name for name, scheme in schemes().items() if not scheme.signs_body} == {"flutterwave"}
    assert all(name == scheme.provider for name, scheme in schemes().items())


@EACH
def test_the_vector_holds(vector: Vector) -> None:
    assert vector.check() == Genuine(vector.event_id, 0)


@SIGNED
def test_any_flipped_bit_of_the_body_is_refused(vector: Vector) -> None:
    for place in range(len(vector.body)):
        for bit in (0x01, 0x20):
            changed = bytearray(vector.body)
            changed[place] ^= bit
            if vector.provider == "alchemy_pay" and _same_to_alchemy(bytes(changed), vector.body):
                continue
            with pytest.raises(ForgedError):
                vector.check(body=bytes(changed))


def _same_to_alchemy(changed: bytes, body: bytes) -> bool:
    """What isn't signed by their rules: the old signature, and spaces between the parts."""

    def signed(text: bytes) -> object:
        found = json.loads(text)
        return {name: value for name, value in found.items() if value and name != "signature"}

    try:
        return signed(changed) == signed(body)
    except (ValueError, AttributeError):
        return False


@EACH
def test_any_flipped_character_of_the_signature_is_refused(vector: Vector) -> None:
    if not vector.signature:
        return  # in the body: the test above flips it
    given = vector.headers[vector.signature]
    for place, sign in enumerate(given):
        headers = {**vector.headers, vector.signature: f"{given[:place]}{chr(ord(sign) ^ 1)}{given[place + 1 :]}"}
        with pytest.raises(ForgedError):
            vector.check(headers=headers)
    for headers in ({}, {vector.signature: ""}, {vector.signature: given + "x"}, {vector.signature: given[:-1]}):
        with pytest.raises(ForgedError):
            vector.check(headers={**vector.headers, vector.signature: "", **headers})


@EACH
def test_another_secret_none_and_an_empty_one_are_refused(vector: Vector) -> None:
    for secrets in ([], [b"another"], [vector.secret + b"x"], [vector.secret[:-1]], [b""]):
        with pytest.raises(ForgedError):
            vector.check(secrets=secrets)


def test_an_empty_secret_signs_for_nobody() -> None:
    """A setting that was left empty must not let everybody in who knows that it is."""
    made = hmac.new(b"", b"{}", "sha256").hexdigest()
    with pytest.raises(ForgedError):
        schemes()["razorpay"].check(b"{}", {"x-razorpay-signature": made}, [b"", b"other"], NOW)


@EACH
def test_a_header_that_is_needed_is_needed(vector: Vector) -> None:
    for name in (*vector.others, vector.signature):
        headers = {key: value for key, value in vector.headers.items() if key != name}
        if name:
            with pytest.raises(ForgedError):
                vector.check(headers=headers)


@EACH
def test_while_a_secret_is_changed_both_are_good_and_it_is_told_which(vector: Vector) -> None:
    assert vector.check(secrets=[b"new", vector.secret]).secret == 1
    assert vector.check(secrets=[vector.secret, b"old"]).secret == 0
    assert vector.check(secrets=[b"a", b"b", vector.secret, vector.secret]).secret == 2


def test_what_was_signed_long_ago_or_for_later_is_refused() -> None:
    vector = VECTORS["stripe"]
    for seconds in (-300, -299, 0, 299, 300):
        assert vector.check(at=NOW + timedelta(seconds=seconds)).secret == 0
    for seconds in (-301, 301, 3_600, -86_400):
        with pytest.raises(ForgedError):
            vector.check(at=NOW + timedelta(seconds=seconds))
    vector = VECTORS["alchemy_pay"]
    for seconds in (-300, 0, 86_400):  # their repeats come for 16 hours
        assert vector.check(at=NOW + timedelta(seconds=seconds)).secret == 0
    for seconds in (-301, 86_401):
        with pytest.raises(ForgedError):
            vector.check(at=NOW + timedelta(seconds=seconds))


# --- the official library beside ours --------------------------------------------------------------------------------


def _official(body: bytes, header: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(body, header, secret, 300))
    except stripe.SignatureVerificationError:
        return False


def _ours(body: bytes, header: str, secret: str, at: datetime) -> bool:
    try:
        schemes()["stripe"].check(body, {"stripe-signature": header}, [secret.encode()], at)
    except ForgedError:
        return False
    return True


@st.composite
def _headers(draw: st.DrawFn) -> tuple[str, str, str]:
    """Body, secret, and a header that is right, wrong in one part, or has several signatures."""
    text = st.text(st.characters(codec="utf-8"), max_size=60)
    body, secret = draw(text), draw(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=40))
    age = draw(st.sampled_from([0, 5, 290, 320, 100_000]))
    at = int(time.time()) - age
    right = stripe.WebhookSignature._compute_signature(f"{at}.{body}", secret)
    foreign = stripe.WebhookSignature._compute_signature(f"{at}.{body}", secret + "x")
    parts = draw(st.lists(st.sampled_from([f"v1={right}", f"v1={foreign}", "v0=abc", "v1=", "junk"]), max_size=4))
    parts.insert(draw(st.integers(0, len(parts))), draw(st.sampled_from([f"t={at}", f"t={at + 1}", "t=", "t=x"])))
    return body, secret, ",".join(parts)


@settings(max_examples=200, deadline=None)
@given(_headers())
def test_we_say_of_each_header_what_the_official_library_says(drawn: tuple[str, str, str]) -> None:
    body, secret, header = drawn
    now = datetime.now(UTC)
    assert _ours(body.encode(), header, secret, now) == _official(body.encode(), header, secret)


def test_only_of_the_future_we_are_stricter() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    header = _stripe("{}", "whsec_x", at)["stripe-signature"]
    assert _official(b"{}", header, "whsec_x") and not _ours(b"{}", header, "whsec_x", datetime.now(UTC))


# --- junk -------------------------------------------------------------------------------------------------------------

NAMES = [
    "stripe-signature",
    "x-razorpay-signature",
    "x-razorpay-event-id",
    "signature",
    "verif-hash",
    "timestamp",
    ":path",
]
JUNK = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["t=1,v1=a", "t=1795262400,v1=", "t=²,v1=a", "t=" + "9" * 5_000 + ",v1=a", "=,=", "1795262400000"]),
)
BODIES = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"{}", b'{"newSignature":1}', b'{"newSignature":"x"}', b"\xff",
         b'{"newSignature":"x","a":' + b"9" * 5_000 + b"}", b'{"newSignature":"x",}', b'{"newSignature":"x"} {}',
         b'{"newSignature":"x","newSignature":"y"}', b"[1]", b'{"a":"\\ud800","newSignature":"\\ud800"}'],
    ),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(schemes())), BODIES, st.dictionaries(st.sampled_from(NAMES), JUNK))
def test_junk_is_forged_and_nothing_else(provider: str, body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(ForgedError):
        schemes()[provider].check(body, headers, [b"a secret that nobody has", b"\xff\xfe"], NOW)


def test_a_signature_too_many_is_refused_before_it_is_compared() -> None:
    header = _stripe(STRIPE_BODY, "whsec_x")["stripe-signature"]
    with pytest.raises(ForgedError, match="understood"):
        schemes()["stripe"].check(STRIPE_BODY.encode(), {"stripe-signature": header + ",v1=a" * 20}, [b"whsec_x"], NOW)


# --- what tells repeats -----------------------------------------------------------------------------------------------


def _razorpay(body: bytes, event_id: str) -> Genuine:
    headers = {"x-razorpay-signature": hmac.new(b"s", body, "sha256").hexdigest(), "x-razorpay-event-id": event_id}
    return schemes()["razorpay"].check(body, headers, [b"s"], NOW)


def test_an_event_id_that_is_not_signed_can_hide_no_other_event() -> None:
    first, again, other = _razorpay(b"one", "evt_1"), _razorpay(b"one", "evt_1"), _razorpay(b"two", "evt_1")
    assert first.event_id == again.event_id != other.event_id
    assert first.event_id is not None and first.event_id.startswith("evt_1:")


@pytest.mark.parametrize("strange", ["", " ", "x" * 129, "a\nb", "\x00", "é"])
def test_an_event_id_that_is_none_is_left_to_the_digest(strange: str) -> None:
    assert _razorpay(b"one", strange).event_id is None


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"id":7}', b'{"id":"a b"}', b"[" * 100_000])
def test_a_signed_id_that_is_none_is_left_to_the_digest(body: bytes) -> None:
    assert schemes()["stripe"].check(body, _stripe(body.decode(), "s"), [b"s"], NOW).event_id is None


# --- what the official fixtures say beyond that ---------------------------------------------------------------------


def test_the_signature_that_the_sdk_calls_invalid_is() -> None:
    headers = {"signature": fixtures.UNLIMIT_PAYMENT_FORGED}
    with pytest.raises(ForgedError):
        schemes()["unlimit"].check(fixtures.UNLIMIT_PAYMENT, headers, [fixtures.UNLIMIT_SECRET], NOW)


def test_their_page_s_webhook_is_signed_as_their_page_says() -> None:
    """All but the secret, which they don't show: so signed by one of ours, over their text, by another library."""
    signed = HMAC.new(b"ours", fixtures.ALCHEMY_PAY_TEXT.encode(), SHA256).digest()
    theirs = json.loads(fixtures.ALCHEMY_PAY_BODY)["newSignature"].encode()
    assert fixtures.ALCHEMY_PAY_BODY.count(theirs) == 1
    body = fixtures.ALCHEMY_PAY_BODY.replace(theirs, b64encode(signed))
    headers = {"timestamp": fixtures.ALCHEMY_PAY_TIME, alchemy_pay.PATH: fixtures.ALCHEMY_PAY_PATH}
    at = datetime.fromtimestamp(int(fixtures.ALCHEMY_PAY_TIME) // 1_000, UTC)
    assert schemes()["alchemy_pay"].check(body, headers, [b"ours"], at) == Genuine(None, 0)
    for other in (
        fixtures.ALCHEMY_PAY_BODY,
        body.replace(b"15.00000000", b"16.00000000"),
        body.replace(b"0.99", b"0.9"),
    ):
        with pytest.raises(ForgedError):
            schemes()["alchemy_pay"].check(other, headers, [b"ours"], at)


def test_requests_to_alchemy_pay_are_signed_as_their_pages_and_others_say() -> None:
    assert alchemy_pay_gateway.canonical(fixtures.ALCHEMY_PAY_ORDER) == fixtures.ALCHEMY_PAY_ORDER_TEXT
    parts = (fixtures.ALCHEMY_PAY_QUERY_TIME, "GET", fixtures.ALCHEMY_PAY_QUERY, "")
    sign = alchemy_pay_gateway.sign
    assert sign(fixtures.ALCHEMY_PAY_QUERY_SECRET, *parts) == fixtures.ALCHEMY_PAY_QUERY_SIGNED
    assert sign(b"another", *parts) != fixtures.ALCHEMY_PAY_QUERY_SIGNED


# --- alchemy pay: what of the body is signed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "signed"),
    [
        ({"b": '"2"', "a": '"1"'}, '{"a":"1","b":"2"}'),
        ({"a": '""', "b": "null", "c": '"x"', "signature": '"s"', "newSignature": '"n"'}, '{"c":"x"}'),
        ({"n": "15.00", "z": "0", "f": "false"}, '{"f":false,"n":15.00,"z":0}'),
        ({"é": '"\\u00e9"', "Z": '"/"', "a": '"ß"'}, '{"Z":"/","a":"ß","é":"\\u00e9"}'),
    ],
)
def test_alchemy_pay_signs_the_members_as_they_are_written(members: dict[str, str], signed: str) -> None:
    assert alchemy_pay.signed_object(members) == signed


def test_alchemy_pay_s_signature_is_for_one_address() -> None:
    vector = VECTORS["alchemy_pay"]
    for path in ("/v1/webhooks/stripe", PATH + "/", ""):
        with pytest.raises(ForgedError):
            vector.check(headers={**vector.headers, ":path": path})
