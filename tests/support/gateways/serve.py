"""`python -m tests.support.gateways.serve <provider>`: a double as a process of its own, with its payers.

Prints one line of JSON once it serves: `environment`, what a deployment sets to have this gateway, and `payer`, a URL
where the double is told what its payers and banks do:

    POST <payer>/pay/<reference>?to=<url>    somebody pays the order; `finish_refunds` and others of `ACTS` are alike

Each act sends the webhooks that come of it to `to`, signed, as often as `times` says (default: once), and answers with
`{"statuses": [...]}`, what each was answered with. Ends when its standard input is closed, so with whoever started it.
"""

import argparse
import json
import sys
from urllib.parse import parse_qs, urlsplit

from local.http_server import Answer, Asked, HttpServer
from providers.fiat.registry import GATEWAYS
from tests.support.gateways import DOUBLES
from tests.support.gateways.base import Double, told

WITH_ORDER = ("pay", "fail", "expire", "refund_outside", "dispute", "charge_back", "win_dispute")
ACTS = (*WITH_ORDER, "finish_refunds", "fail_refunds")
LIMITS = (100, 99_999_999_99)
SERVED = {kind.name: kind for kind in DOUBLES if len(GATEWAYS[kind.name][0].credentials) == len(kind.secrets) == 1}
"""Those whose only credential is a key."""


def environment(double: Double) -> dict[str, str]:
    """What a deployment has this gateway by. Of `SERVED`."""
    settings, _ = GATEWAYS[double.name]
    prefix = settings.model_config.get("env_prefix", "")
    [credential], [secret] = settings.credentials, double.secrets
    return {
        f"{prefix}{credential}".upper(): secret,
        f"{prefix}BASE_URL": double.url,
        f"{prefix}CURRENCIES": json.dumps(dict.fromkeys((double.currency, double.other_currency), LIMITS)),
        "WEBHOOK_SECRETS": json.dumps({double.name: [double.webhook_secret.decode()]}),
    }


class Payers:
    """The side of a double that its provider has no API for."""

    def __init__(self, double: Double) -> None:
        self._double = double

    def answer(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        act, _, reference = url.path.removeprefix("/").partition("/")
        query = parse_qs(url.query)
        if asked.method != "POST" or act not in ACTS or (act in WITH_ORDER) is not bool(reference):
            return told({"error": f"no such act: {asked.method} {url.path}"}, 404)
        with self._double.lock:
            self._double.take()  # what nobody asked to be sent
            try:
                getattr(self._double, act)(*([reference] if reference else []))
            except (KeyError, StopIteration):
                return told({"error": f"no such order: {reference}"}, 404)
            sent = self._double.take()
        times = int(query.get("times", ["1"])[0])
        return told({"statuses": [one.post(to) for to in query.get("to", []) for one in sent * times]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("provider", choices=sorted(SERVED))
    with SERVED[parser.parse_args().provider]() as double, HttpServer(Payers(double).answer) as payers:
        facts = {"environment": environment(double), "payer": f"http://127.0.0.1:{payers.port}"}
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
