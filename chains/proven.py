"""What endpoints have proved of chain transactions, where a proof is of final blocks, so that it holds for ever."""

from collections.abc import Callable

from chains.endpoint import Endpoint

KEPT_MAX = 10_000


class Proven:
    """A proof may take tens of megabytes to read. One that a second host does not confirm yet is not read again for it.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._kept: set[tuple[str, str]] = set()

    def by(self, endpoint: Endpoint, chain_tx: str, prove: Callable[[], bool | None]) -> bool | None:
        """What `prove` says, or said when it was True. See `Nodes.proven`."""
        key = (endpoint.label, chain_tx)
        if key in self._kept:
            return True
        shown = prove()
        if shown:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept.add(key)
        return shown
