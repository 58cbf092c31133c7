"""What each source calls a pair, unless the deployment says otherwise. By the registry's symbols of the two assets."""

from collections.abc import Callable, Mapping

from config.assets import Asset, registry
from providers.prices.base import Pair

FIAT = "iso4217:"
# Binance has no dollars: a USDT is taken for one. While that doesn't hold its prices are outliers, or the spread is
# too wide: either way no money is moved by them.
BINANCE = {
    ("BTC", "USD"): "BTCUSDT",
    ("ETH", "USD"): "ETHUSDT",
    ("BNB", "USD"): "BNBUSDT",
    ("SOL", "USD"): "SOLUSDT",
    ("TRX", "USD"): "TRXUSDT",
    ("APT", "USD"): "APTUSDT",
    ("USDC", "USD"): "USDCUSDT",
    ("EUR", "USD"): "EURUSDT",
}
COINBASE = {(coin, "USD"): f"{coin}-USD" for coin in ("BTC", "ETH", "BNB", "SOL", "APT", "USDT")}
COINGECKO_COINS = {
    "BTC": "bitcoin",
    "ETH": "ethereum",
    "BNB": "binancecoin",
    "SOL": "solana",
    "TRX": "tron",
    "APT": "aptos",
    "USDT": "tether",
    "USDC": "usd-coin",
}
_COINGECKO_CURRENCIES = """
aed ars aud bdt bhd bmd brl cad chf clp cny czk dkk eur gbp gel hkd huf idr ils inr jpy krw kwd lkr mmk mxn myr ngn
nok nzd php pkr pln rub sar sek sgd thb try twd uah usd vnd zar
"""
COINGECKO_CURRENCIES = frozenset(_COINGECKO_CURRENCIES.split())


def binance(asset: Asset, currency: Asset) -> str | None:
    return BINANCE.get((asset.symbol, currency.symbol))


def coinbase(asset: Asset, currency: Asset) -> str | None:
    """A product, `ETH-USD`; or of two currencies `USD/NGN`, which it has no market of but a rate."""
    if asset.id.startswith(FIAT) and currency.id.startswith(FIAT):
        return f"{asset.symbol}/{currency.symbol}"
    return COINBASE.get((asset.symbol, currency.symbol))


def coingecko(asset: Asset, currency: Asset) -> str | None:
    """`ethereum/usd`; or of two currencies what a bitcoin costs in the one by what it costs in the other."""
    quoted, base = currency.symbol.lower(), asset.symbol.lower()
    if not currency.id.startswith(FIAT) or quoted not in COINGECKO_CURRENCIES:
        return None
    if asset.id.startswith(FIAT):
        return f"bitcoin/{quoted}/{base}" if base in COINGECKO_CURRENCIES else None
    coin = COINGECKO_COINS.get(asset.symbol)
    return None if coin is None else f"{coin}/{quoted}"


class Symbols:
    """One source's names of pairs."""

    def __init__(self, defaults: Callable[[Asset, Asset], str | None], chosen: Mapping[str, str | None]) -> None:
        self._defaults = defaults
        self._chosen = chosen

    def of(self, pair: Pair) -> str | None:
        """None: the source doesn't know it."""
        key = f"{pair.asset} {pair.currency}"
        if key in self._chosen:
            return self._chosen[key]
        assets = registry().assets
        asset, currency = assets.get(pair.asset), assets.get(pair.currency)
        return None if asset is None or currency is None else self._defaults(asset, currency)
