"""The nodes of one Bitcoin network, as its reader and its sender are made of them."""

import re
from collections.abc import Sequence

from chains.bitcoin import formats, parse
from chains.errors import WrongChainError
from chains.fields import plain_hash
from chains.http import HttpEndpoint
from chains.nodes import Nodes
from config.assets import Asset, Chain
from core.errors import InvalidRequestError, PermanentError

_ASSET = re.compile(r"slip44:\d+")


def assets_of(chain: Chain, assets: Sequence[Asset]) -> parse.Assets:
    """Raises PermanentError for what is no Bitcoin network, or not its coin."""
    try:
        formats.network(chain.id)
    except InvalidRequestError:
        raise PermanentError(f"{chain.id} is no Bitcoin network; there are {', '.join(formats.NETWORK_OF)}") from None
    _check_assets(chain.id, assets)
    return parse.Assets(chain=chain.id, native=next((asset.id for asset in assets), None))


def nodes_of(chain: Chain, *, connect_timeout: float, read_timeout: float) -> Nodes[HttpEndpoint]:
    def verify(endpoint: HttpEndpoint) -> None:
        """A node of another chain would show the right address with the wrong money: nothing of it is believed."""
        genesis = plain_hash(endpoint.ask([("getblockhash", [0])])[0])
        theirs = f"bip122:{genesis[:32]}"
        if theirs != chain.id:
            raise WrongChainError(f"{endpoint.label} is a node of {theirs}, not of {chain.id}; check RPC_URLS")

    endpoints = [HttpEndpoint(node, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes]
    return Nodes(chain, endpoints, verify=verify)


def _check_assets(chain: str, assets: Sequence[Asset]) -> None:
    """Bitcoin has its coin and no tokens; a scale other than its own would book amounts by a wrong power of ten."""
    for asset in assets:
        if not _ASSET.fullmatch(asset.id.partition("/")[2]):
            raise PermanentError(f"{asset.id!r} is no asset of {chain}: there is only the coin, slip44:0")
        if asset.scale != formats.SCALE:
            raise PermanentError(f"{asset.id} has the scale {asset.scale}; Bitcoin's is {formats.SCALE}")
    if len(assets) > 1:
        raise PermanentError(f"{chain} has two coins: {', '.join(asset.id for asset in assets)}")
