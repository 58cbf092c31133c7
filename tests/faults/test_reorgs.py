"""Reorgs of any depth, at random, on real nodes: after each the books are the chain's, and nothing else.

What is true is asked of the node itself (`Lab.height_of`), not of the reader under test.
"""

import random
from collections import defaultdict
from collections.abc import Iterator

import pytest

from chains import registry
from chains.base import ChainReader
from tests.conformance.conftest import opened
from tests.conformance.lab import Lab, Payment
from tests.conformance.test_deposits import UNITS, Till

DEPTH_MAX = 20
USERS = ("1", "2", "3")
KINDS = ("eip155", "bip122")


@pytest.fixture(scope="module", params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as lab:
        yield lab


@pytest.fixture
def reader(lab: Lab) -> ChainReader:
    return registry.get(lab.chain)


@pytest.fixture
def till(database_url: str, lab: Lab, reader: ChainReader) -> Iterator[Till]:
    made = Till(lab, reader)
    yield made
    made.close()


class Campaign:
    """Owners are paid by hash and by address, in blocks that come and go."""

    def __init__(self, till: Till, lab: Lab, seed: int) -> None:
        self.till, self.lab, self.seed = till, lab, seed
        self.random = random.Random(seed)
        self.addresses = {user: till.by_address(user).address for user in USERS}
        self.paid: dict[str, tuple[str, int]] = {}
        till.work()
        lab.mine(DEPTH_MAX + 4)  # so that the deepest reorg stays within what is ours
        till.work()

    def round(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            for _ in range(self.random.randint(0, 2)):
                self._pay()
            self.lab.mine(self.random.randint(1, 3))
            if self.random.random() < 0.7:
                self.till.work()
        depth = self.random.randint(1, DEPTH_MAX)
        recent = list(self.paid)[-10:]
        self.lab.undo(depth, keep=[tx for tx in recent if self.lab.height_of(tx) and self.random.random() < 0.5])
        if self.random.random() < 0.5:
            self.till.work()
        self.lab.mine(self.random.randint(1, 3))

    def _pay(self) -> None:
        user = self.random.choice(USERS)
        units = UNITS + self.random.randint(0, 9_999)
        by_hash = self.random.random() < 0.4
        chain_tx = self.lab.pay(Payment(self.till.shared if by_hash else self.addresses[user], units))
        self.paid[chain_tx] = (user, units)
        if by_hash:
            self.till.by_hash(chain_tx, user)

    def settle(self) -> None:
        self.till.settle(3)

    def check(self) -> None:
        """Every user has been credited what the node says has arrived for him: by orders, or set apart by the scan."""
        arrived: dict[str, int] = defaultdict(int)
        for chain_tx, (user, units) in self.paid.items():
            if self.lab.height_of(chain_tx) is not None:
                arrived[user] += units
        held: dict[str, int] = defaultdict(int)
        for deposit in self.till.all():
            if deposit.state in ("credited", "suspended"):
                held[deposit.account.split(":")[1]] += deposit.units_received or 0
        assert dict(held) == dict(arrived), f"seed {self.seed}"
        self.till.close()


def test_the_books_are_the_chains_after_reorgs_of_any_depth(till: Till, lab: Lab) -> None:
    campaign = Campaign(till, lab, seed=4)
    for _ in range(4):
        campaign.round()
        campaign.settle()
        campaign.check()


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_hundred_reorgs_of_depth_1_to_20_leave_the_books_equal_to_the_chain(till: Till, lab: Lab) -> None:
    seed = random.randrange(2**32)
    campaign = Campaign(till, lab, seed)
    for _ in range(100):
        campaign.round()
        campaign.settle()
        campaign.check()
