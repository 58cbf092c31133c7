"""Binance's spot market: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ccxt

from core.http import HttpClient
from providers.prices import symbols, wire
from providers.prices.base import Pair, Price
from providers.prices.exchanges import as_transient, through
from providers.prices.settings import PriceSettings

MILLISECONDS = 1_000


class Binance:
    """The last price of each symbol, by the time that its statistics end. All symbols in one request."""

    name = "binance"

    def __init__(self, settings: PriceSettings) -> None:
        base = settings.binance_base_url.rstrip("/")
        self._symbols = symbols.Symbols(symbols.binance, settings.binance_symbols)
        self._exchange = through(ccxt.binance(), HttpClient(base, answer_timeout=settings.timeout))
        self._exchange.urls["api"]["public"] = f"{base}/api/v3"

    def knows(self, pair: Pair) -> bool:
        return self._symbols.of(pair) is not None

    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        names = sorted({name for pair in pairs if (name := self._symbols.of(pair)) is not None})
        if not names:
            return {}
        with wire.failures(self.name):
            rows = self._rows(names)
        return wire.told(self.name, pairs, self._symbols, rows.get)

    def _rows(self, names: Sequence[str]) -> dict[str, wire.Found]:
        try:
            return self._ask(names)
        except ccxt.BadSymbol as error:
            # One that was delisted spoils the answer for all.
            if len(names) == 1:
                raise as_transient(self.name, error) from None
        except ccxt.BaseError as error:
            raise as_transient(self.name, error) from None
        found: dict[str, wire.Found] = {}
        for name in names:
            try:
                found |= self._ask([name])
            except ccxt.BadSymbol:
                continue
            except ccxt.BaseError as error:
                raise as_transient(self.name, error) from None
        return found

    def _ask(self, names: Sequence[str]) -> dict[str, wire.Found]:
        listed = json.dumps(names, separators=(",", ":"))
        rows: Any = self._exchange.public_get_ticker_24hr({"symbols": listed, "type": "MINI"})
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise wire.MalformedError("no list of tickers")
        return {str(row.get("symbol")): _found(row) for row in rows}


def _found(row: Mapping[str, object]) -> wire.Found:
    price = wire.decimal_text(row.get("lastPrice"))
    at = wire.moment(row.get("closeTime"), per_second=MILLISECONDS)
    return None if price is None or at is None else (price, at)
