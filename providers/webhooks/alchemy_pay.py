"""Alchemy Pay: `newSignature` in the body, base64 HMAC-SHA256 by the app's secret of

    timestamp (a header) + "POST" + path of the callback URL + the body's members

where the members are a JSON object without spaces, sorted by name, without those that are empty and without
`signature` (an older one, of few fields) and `newSignature`. https://alchemypay.readme.io/docs/webhook-signature

The page shows no signature with its secret, and its two examples differ in their spaces: that the object has none is
what the text says of it elsewhere and what their language's serialiser writes. Each value is taken as it stands in the
body, to the last digit and escape, so that no number is written in another way than theirs.
"""

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime

from providers.webhooks.base import ForgedError, Genuine, Scheme
from providers.webhooks.comparing import fitting, header

PATH = ":path"
"""The request's path stands among the headers under this name, as in HTTP/2 (RFC 9113, 8.3.1): no header of a sender
can have it."""
LATE_S = 24 * 3_600
"""Their page names no limit. They try again for 16 hours and don't say whether they sign anew, so less would refuse
what is genuine; repeats are told by the body's digest."""
EARLY_S = 300
"""Between their clock and ours."""
TIME_DIGITS = 13
_UNSIGNED = {"signature", "newSignature"}
_EMPTY = {'""', "null"}
_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


def check(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes], now: datetime) -> Genuine:
    time = header(headers, "timestamp")
    if not (time.isascii() and time.isdigit() and len(time) == TIME_DIGITS):
        raise ForgedError("the timestamp is none")
    members = _members(body)
    given = json.loads(members.get("newSignature", "null"))
    if not isinstance(given, str):
        raise ForgedError("there is no newSignature")
    signed = f"{time}POST{header(headers, PATH)}{signed_object(members)}".encode(errors="replace")
    secret = fitting([given], secrets, lambda key: b64encode(hmac.digest(key, signed, "sha256")).decode())
    age_ms = now.timestamp() * 1_000 - int(time)
    if not -EARLY_S * 1_000 <= age_ms <= LATE_S * 1_000:
        raise ForgedError("it was signed at another time")
    return Genuine(None, secret)


def signed_object(members: Mapping[str, str]) -> str:
    """What of the body is signed. `members`: name -> value as it is written."""
    kept = (
        f"{json.dumps(name, ensure_ascii=False)}:{value}"
        for name, value in sorted(members.items())
        if _is_signed(name, value)
    )
    return f"{{{','.join(kept)}}}"


def _is_signed(name: str, value: str) -> bool:
    return name not in _UNSIGNED and value not in _EMPTY


def _members(body: bytes) -> dict[str, str]:
    """Of a JSON object: name -> value as it is written. Raises ForgedError if it is none, or names one twice."""
    try:
        return _read(body.decode())
    except (ValueError, IndexError, RecursionError):
        raise ForgedError("the body is no JSON object") from None


def _read(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = _past(text, 0, "{")
    while True:
        name, at = _DECODER.raw_decode(text, _past(text, at, '"') - 1)
        begins = _skip(text, _past(text, at, ":"))
        _, ends = _DECODER.raw_decode(text, begins)
        if name in found:
            raise ValueError(name)
        found[name] = text[begins:ends]
        at = _skip(text, ends)
        if text[at] == "}":
            break
        at = _past(text, at, ",")
    if text[at + 1 :].strip(_SPACE):
        raise ValueError(at)
    return found


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _past(text: str, at: int, sign: str) -> int:
    """The place behind the sign, which must come next."""
    at = _skip(text, at)
    if text[at] != sign:
        raise ValueError(at)
    return at + 1


SCHEME = Scheme("alchemy_pay", check)
