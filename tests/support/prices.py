"""Doubles of sources of prices: real HTTP, each source's wire format, and what goes wrong.

Beyond the faults of tests.support.faulty: a price that is stale, of another symbol, below zero or no number, and bytes
that drip. Formats: Binance, GET /api/v3/ticker/24hr?type=MINI; Coinbase, GET /api/v3/brokerage/market/products and GET
/v2/exchange-rates; CoinGecko, GET /simple/price.
"""

import abc
import importlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

from local.http_server import Answer, Asked, HttpServer
from providers.prices.base import Pair, Source
from providers.prices.registry import ADAPTERS
from providers.prices.settings import PriceSettings, SourceName
from tests.support.faulty import Fault

BTC = "bip122:000000000019d6689c085ae165831e93/slip44:0"
ETH = "eip155:1/slip44:60"
USDC = "eip155:1/erc20:0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
USD, NGN, EUR = "iso4217:USD", "iso4217:NGN", "iso4217:EUR"
ETH_USD = Pair(ETH, USD)
BTC_USD = Pair(BTC, USD)
USDC_USD = Pair(USDC, USD)
USD_NGN = Pair(USD, NGN)


class PriceDouble(abc.ABC):
    """One source. `with BinanceDouble() as double: double.source()` is the adapter, pointed at it."""

    name: ClassVar[SourceName]
    pairs: ClassVar[Mapping[Pair, str]]
    """What it knows of the pairs above, and under which names."""
    tells_times: ClassVar[bool] = True

    def __init__(self) -> None:
        self.prices: dict[str, str] = {}
        """By its own names, as JSON text: `"1.5"` in quotes where it sends strings."""
        self.age = timedelta(0)
        self.fault: Fault | None = None
        self.asked: list[Asked] = []
        self._http = HttpServer(self._answer)

    def __enter__(self) -> Self:
        self._http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.port}"

    def source(self, *, timeout: float = 5.0, **options: Any) -> Source:
        """The adapter. `options` are settings of its own, without its name."""
        chosen = {f"{self.name}_{name}": value for name, value in ({"base_url": self.url} | options).items()}
        module, adapter = ADAPTERS[self.name].split(":")
        made: Source = getattr(importlib.import_module(module), adapter)(PriceSettings(timeout=timeout, **chosen))
        return made

    def set(self, pair: Pair, price: str) -> None:
        """What it tells of the pair from now on; `price` is what stands in the answer, such as 1999.95 or null."""
        self.prices[self.pairs[pair]] = price

    @property
    def then(self) -> datetime:
        return datetime.now(UTC) - self.age

    def _answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self._serve(asked) if self.fault is None else self.fault(asked, self._serve)

    def _serve(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.path)
        return self.serve(parts.path, parse_qs(parts.query))

    @abc.abstractmethod
    def serve(self, path: str, query: Mapping[str, list[str]]) -> Answer: ...


def told(text: str, status: int = 200) -> Answer:
    return Answer(status, text.encode())


def quoted(price: str) -> str:
    """A decimal as the string that Binance and Coinbase send; all else as it is."""
    return json.dumps(price) if price[:1].isdigit() or price[:1] == "-" else price


class BinanceDouble(PriceDouble):
    name = "binance"
    pairs: ClassVar = {BTC_USD: "BTCUSDT", ETH_USD: "ETHUSDT", USDC_USD: "USDCUSDT"}

    def serve(self, path: str, query: Mapping[str, list[str]]) -> Answer:
        if path != "/api/v3/ticker/24hr" or query.get("type") != ["MINI"]:
            return told('{"code":-1100,"msg":"Illegal characters found in a parameter."}', 400)
        [listed] = query["symbols"]
        symbols = json.loads(listed)
        if listed != json.dumps(symbols, separators=(",", ":")):
            return told('{"code":-1100,"msg":"Illegal characters found in parameter \'symbols\'"}', 400)
        if any(symbol not in self.prices for symbol in symbols):
            return told('{"code":-1121,"msg":"Invalid symbol."}', 400)
        return told(f"[{','.join(self.ticker(symbol) for symbol in symbols)}]")

    def ticker(self, symbol: str) -> str:
        closes = int(self.then.timestamp() * 1_000)
        return (
            f'{{"symbol":"{symbol}","openPrice":"1.00000000","highPrice":"1.00000000","lowPrice":"1.00000000",'
            f'"lastPrice":{quoted(self.prices[symbol])},"volume":"1.00000000","quoteVolume":"1.00000000",'
            f'"openTime":{closes - 86_400_000},"closeTime":{closes},"firstId":1,"lastId":2,"count":2}}'
        )


class CoinbaseDouble(PriceDouble):
    name = "coinbase"
    pairs: ClassVar = {BTC_USD: "BTC-USD", ETH_USD: "ETH-USD", USD_NGN: "USD/NGN"}
    tells_times = False

    def __init__(self) -> None:
        super().__init__()
        self.halted: set[str] = set()

    def serve(self, path: str, query: Mapping[str, list[str]]) -> Answer:
        if path == "/v2/exchange-rates":
            [base] = query["currency"]
            rates = [
                f'"{name.split("/")[1]}":{quoted(price)}'
                for name, price in self.prices.items()
                if name.startswith(f"{base}/")
            ]
            return told(f'{{"data":{{"currency":"{base}","rates":{{{",".join(rates)}}}}}}}')
        if path != "/api/v3/brokerage/market/products":
            return told('{"error":"NOT_FOUND","error_details":"","message":""}', 404)
        known = [name for name in query["product_ids"] if name in self.prices]
        return told(f'{{"products":[{",".join(map(self.product, known))}],"num_products":{len(known)}}}')

    def product(self, name: str) -> str:
        base, quote = name.split("-")
        halted = json.dumps(name in self.halted)
        return (
            f'{{"product_id":"{name}","price":{quoted(self.prices[name])},"price_percentage_change_24h":"1.94",'
            f'"quote_increment":"0.01","base_increment":"0.00000001","is_disabled":false,"status":"online",'
            f'"cancel_only":false,"trading_disabled":{halted},"product_type":"SPOT","quote_currency_id":"{quote}",'
            f'"base_currency_id":"{base}","mid_market_price":""}}'
        )


class CoinGeckoDouble(PriceDouble):
    name = "coingecko"
    pairs: ClassVar = {
        BTC_USD: "bitcoin/usd",
        ETH_USD: "ethereum/usd",
        USDC_USD: "usd-coin/usd",
        USD_NGN: "bitcoin/ngn",
    }

    def set(self, pair: Pair, price: str) -> None:
        """Two currencies are told by what a bitcoin costs in each, which costs ten in the first."""
        if pair == USD_NGN:
            self.prices.setdefault("bitcoin/usd", "10")
        super().set(pair, price)

    def serve(self, path: str, query: Mapping[str, list[str]]) -> Answer:
        if path != "/simple/price" or query.get("include_last_updated_at") != ["true"]:
            return told('{"error":"Not found"}', 404)
        coins = []
        for coin in query["ids"][0].split(","):
            row = [
                f'"{currency}":{self.prices[f"{coin}/{currency}"]}'
                for currency in query["vs_currencies"][0].split(",")
                if f"{coin}/{currency}" in self.prices
            ]
            if row:
                row.append(f'"last_updated_at":{int(self.then.timestamp())}')
                coins.append(f'"{coin}":{{{",".join(row)}}}')
        return told(f"{{{','.join(coins)}}}")


DOUBLES: tuple[type[PriceDouble], ...] = (BinanceDouble, CoinbaseDouble, CoinGeckoDouble)


@contextmanager
def dripping(pause: float = 0.05) -> Iterator[str]:
    """A server that sends a byte of its answer now and then, for ever. Yields its URL."""
    stopped = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
                )
                while not stopped.wait(pause):
                    connection.sendall(b" ")
            except OSError:
                return  # the caller did not wait

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
