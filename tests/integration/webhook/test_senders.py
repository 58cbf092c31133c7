"""Who sent a webhook, as it is kept: whatever a network says of him, one webhook never costs another its place."""

import asyncio

import pytest

from api.hot.webhooks import Desk
from domain.webhook.intake import Intake
from domain.webhook.service import Kept
from domain.webhook.settings import WebhookSettings
from tests.integration.webhook.desk import arrived, receipts


@pytest.mark.parametrize(
    ("peer", "kept"),
    [
        ("fe80::1%eth0", "fe80::1"),  # as a neighbour on the same wire is named
        ("fe80::1%", None),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_every_address_that_a_server_names_can_be_kept(database_url: str, peer: str, kept: str | None) -> None:
    """They come at one moment, so they are kept in one transaction."""
    remote = Desk(WebhookSettings()).remote(peer, "")

    async def both() -> tuple[Kept, Kept]:
        intake = Intake()
        first = intake.keep(arrived(b"1", remote=None if remote is None else str(remote)))
        return await asyncio.gather(first, intake.keep(arrived(b"2")))

    assert [one.is_repeat for one in asyncio.run(both())] == [False, False]
    found = {row.body: row.remote for row in receipts()}
    assert found.keys() == {b"1", b"2"}
    assert (None if found[b"1"] is None else str(found[b"1"])) == kept
