"""What a hostile reader of payouts found: on the real parts of the tests of sending."""

from tests.integration.payout_sending.conftest import books, desk, two

__all__ = ["books", "desk", "two"]
