"""Payouts on chains: what other parts of the platform may ask for. The steps are beside this module."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from chains.sending import ChainSender
from config.assets import registry
from domain.onchain.cancelling import cancel
from domain.onchain.following import Parts, chain_of, due, follow, send
from domain.onchain.models import OnchainEvent, OnchainTransfer, OnchainVersion, OnchainWallet
from domain.onchain.ports import Ports, use
from domain.onchain.provider import OnchainProvider
from domain.onchain.queries import Figures, figures, get, history, page, versions
from domain.onchain.settings import wallets
from domain.onchain.states import TransferState

__all__ = [
    "EVERY",
    "Figures",
    "OnchainEvent",
    "OnchainProvider",
    "OnchainTransfer",
    "OnchainVersion",
    "OnchainWallet",
    "Parts",
    "Ports",
    "TransferState",
    "cancel",
    "chain_of",
    "chains",
    "due",
    "figures",
    "follow",
    "get",
    "history",
    "page",
    "providers",
    "send",
    "use",
    "versions",
]

EVERY = timedelta(seconds=1)
"""How often a chain is followed, while one of its transfers is due."""


def chains() -> list[str]:
    """Those that we pay on. Raises ValueError if WALLETS names one that nobody can reach."""
    configured = wallets().wallets
    for chain in configured:
        described = registry().chains.get(chain)
        if described is None or not described.nodes:
            raise ValueError(f"WALLETS names the chain {chain!r}, for which RPC_URLS has no endpoint")
    return sorted(configured)


def providers(sender: Callable[[str], ChainSender]) -> Mapping[str, OnchainProvider]:
    """One for each chain that we pay on, by its name. `sender`: of a chain, asked for only when it is needed.

    Raises ValueError with what is wrong in the settings.
    """
    if wallets().wallets and (wallets().signer_url is None or wallets().signer_token is None):
        raise ValueError("WALLETS needs SIGNER_URL and SIGNER_TOKEN: somebody must sign")
    return {
        chain: OnchainProvider(
            wallets().wallets[chain],
            registry().of_chain(chain),
            chain,
            lambda chain=chain: sender(chain),  # type: ignore[misc]
        )
        for chain in chains()
    }
