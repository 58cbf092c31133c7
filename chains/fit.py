"""How much a node takes in one go: found out by asking, and remembered for as long as the process lives."""

GROW_AFTER = 20
"""So many full sizes must be taken before a larger one is tried: each trial that fails costs a request."""


class Fit:
    """A size from 1 to `most`. Halved when the node refuses it, grown again slowly, back to what was taken before.

    Used by several threads without a lock: all that a race can do is to make the next size a little off.
    """

    def __init__(self, most: int) -> None:
        self.now = most
        """The size to ask for next."""
        self._most = most
        self._good = 0
        self._taken = 0

    def taken(self, size: int) -> None:
        self._good = max(self._good, size)
        if size < self.now or self.now >= self._most:
            return
        self._taken += 1
        if self._taken >= GROW_AFTER:
            self._taken = 0
            self.now = min(self._most, self.now + max(1, self.now // 4))

    def refused(self, size: int) -> None:
        """Say this only of a size that was the reason: less was asked for, and was answered."""
        if size <= self._good:
            self._good = 0  # the node takes less than it did, or its answers have become longer
        self.now = max(1, min(self.now, self._good or size // 2))
        self._taken = 0
