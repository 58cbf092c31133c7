"""What a hostile reader of payouts found: on the real parts of the tests of sending."""

from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.payout_asking.conftest import desk as asking
from tests.integration.payout_sending.conftest import books, desk, two

__all__ = ["asking", "books", "desk", "two", "vault_keys"]
