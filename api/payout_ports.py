"""What other slices have for payouts, for requests about them. tasks.payout_screening has the same for jobs."""

from domain.beneficiary import service as beneficiaries
from domain.deposit import service as deposits
from domain.payout.service import Ports
from domain.quote import service as quotes
from domain.rates.service import usable

PORTS = Ports(
    take=beneficiaries.take,
    add=beneficiaries.entry_of,
    consume=quotes.consume,
    rate=usable,
    unsettled=deposits.unsettled,
)
