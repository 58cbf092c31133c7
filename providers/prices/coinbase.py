"""Coinbase: products of Advanced Trade, and for two currencies the rates of the Coinbase app, both without a key.

https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/rest-api
https://docs.cdp.coinbase.com/coinbase-app/track-apis/exchange-rates
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import ccxt

from core import clock
from core.errors import TransientError
from core.http import HttpClient
from providers.prices import symbols, wire
from providers.prices.base import Pair, Price
from providers.prices.exchanges import as_transient, through
from providers.prices.settings import PriceSettings

Ask = Callable[[Sequence[str]], dict[str, str | None]]


class Coinbase:
    """The last price of each product, in one request; rates of currencies in one more. Neither says of when it is."""

    name = "coinbase"

    def __init__(self, settings: PriceSettings) -> None:
        base = settings.coinbase_base_url.rstrip("/")
        self._symbols = symbols.Symbols(symbols.coinbase, settings.coinbase_symbols)
        self._exchange = through(ccxt.coinbase(), HttpClient(base, answer_timeout=settings.timeout))
        self._exchange.urls["api"]["rest"] = base

    def knows(self, pair: Pair) -> bool:
        return self._symbols.of(pair) is not None

    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        names = sorted({name for pair in pairs if (name := self._symbols.of(pair)) is not None})
        if not names:
            return {}
        asked_at = clock.now()
        products = [name for name in names if "/" not in name]
        questions: list[tuple[Ask, Sequence[str]]] = [(self._products, products)] if products else []
        questions += [(self._rates, [base]) for base in sorted({name.split("/")[0] for name in names if "/" in name})]
        found: dict[str, wire.Found] = {}
        failed: TransientError | None = None
        # What one of them tells is of use without the others.
        for ask, subject in questions:
            try:
                with wire.failures(self.name):
                    found |= self._answer(ask, subject, asked_at)
            except TransientError as error:
                failed = error
        if failed is not None and not found:
            raise failed
        return wire.told(self.name, pairs, self._symbols, found.get)

    def _answer(self, ask: Ask, subject: Sequence[str], asked_at: datetime) -> dict[str, wire.Found]:
        try:
            told = ask(subject)
        except ccxt.BaseError as error:
            raise as_transient(self.name, error) from None
        return {name: None if price is None else (price, asked_at) for name, price in told.items()}

    def _products(self, names: Sequence[str]) -> dict[str, str | None]:
        reply = self._exchange.v3_public_get_brokerage_market_products({"product_ids": list(names)})
        rows = reply.get("products") if isinstance(reply, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise wire.MalformedError("no list of products")
        return {str(row.get("product_id")): _price(row) for row in rows}

    def _rates(self, subject: Sequence[str]) -> dict[str, str | None]:
        [base] = subject
        reply = self._exchange.v2_public_get_exchange_rates({"currency": base})
        data = reply.get("data") if isinstance(reply, dict) else None
        rates = data.get("rates") if isinstance(data, dict) else None
        if not isinstance(data, dict) or data.get("currency") != base or not isinstance(rates, dict):
            raise wire.MalformedError(f"no rates of {base}")
        return {f"{base}/{currency}": wire.decimal_text(rate) for currency, rate in rates.items()}


def _price(row: Mapping[str, object]) -> str | None:
    """Of a product that is traded: the last price of one that is halted is nobody's."""
    halted = row.get("is_disabled") or row.get("trading_disabled") or row.get("status", "online") != "online"
    return None if halted else wire.decimal_text(row.get("price"))
