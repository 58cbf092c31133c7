"""CoinGecko: https://docs.coingecko.com/reference/simple-price"""

from collections.abc import Collection, Mapping
from decimal import Decimal

from core.http import HttpClient
from providers.prices import symbols, wire
from providers.prices.base import Pair, Price
from providers.prices.settings import PriceSettings

PLACES = Decimal("1e-18")
PRO = "pro-api."


class CoinGecko:
    """Averages over many exchanges, all in one request. It says of when each coin's is, a minute or so ago."""

    name = "coingecko"

    def __init__(self, settings: PriceSettings) -> None:
        base = settings.coingecko_base_url
        kind = "x-cg-pro-api-key" if PRO in base else "x-cg-demo-api-key"
        key = settings.coingecko_key
        headers = {} if key is None else {kind: key.get_secret_value()}
        self._symbols = symbols.Symbols(symbols.coingecko, settings.coingecko_symbols)
        self._http = HttpClient(base, headers=headers, answer_timeout=settings.timeout)

    def knows(self, pair: Pair) -> bool:
        return self._symbols.of(pair) is not None

    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        names = {name for pair in pairs if (name := self._symbols.of(pair)) is not None}
        if not names:
            return {}
        params = {
            "ids": ",".join(sorted({name.split("/")[0] for name in names})),
            "vs_currencies": ",".join(sorted({part for name in names for part in name.split("/")[1:]})),
            "include_last_updated_at": "true",
            "precision": "full",
        }
        with wire.failures(self.name):
            coins = self._http.read("/simple/price", params=params).json()
            if not isinstance(coins, dict):
                raise wire.MalformedError("no prices by coin")
        return wire.told(self.name, pairs, self._symbols, lambda name: _found(coins, name))


def _found(coins: Mapping[str, object], name: str) -> wire.Found:
    coin, quoted, *base = name.split("/")
    row = coins.get(coin)
    if not isinstance(row, dict):
        return None
    price = wire.decimal_text(row.get(quoted))
    at = wire.moment(row.get("last_updated_at"))
    if price is None or at is None:
        return None
    if base:
        by = wire.decimal_text(row.get(base[0]))
        divided = None if by is None else Decimal(price) / Decimal(by)
        price = None if divided is None else wire.decimal_text(f"{divided:f}")
    return None if price is None else (price, at)
