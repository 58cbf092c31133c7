"""The double is judged by the official client library: what aptos-sdk reads from a full node, it reads from ours."""

import asyncio
from typing import Any

import pytest
from aptos_sdk.account_address import AccountAddress
from aptos_sdk.async_client import ApiError, ClientConfig, RestClient

from chains.aptos.objects import paired_metadata
from tests.support.aptos_ledger import Move
from tests.support.aptos_node import AptosNode
from tests.unit.test_aptos_transfers import PAYEE, PAYER, USDT


async def told(url: str, sent: str, waiting: str) -> dict[str, Any]:
    client = RestClient(url, ClientConfig(http2=False))
    try:
        with pytest.raises(ApiError) as missing:
            await client.transaction_by_hash("0x" + "7" * 64)
        with pytest.raises(ApiError) as beyond:
            await client.blocks_by_height(10_000)
        tx = await client.transaction_by_hash(sent)
        version = int(tx["version"])
        return {
            "chain_id": await client.chain_id(),  # type: ignore[no-untyped-call]
            "info": await client.info(),
            "tx": tx,
            "by_version": await client.transaction_by_version(version),
            "page": await client.transactions(limit=2, start=version),
            "block": await client.blocks_by_version(version, with_transactions=True),
            "by_height": await client.blocks_by_height(2, with_transactions=False),
            "number": await client.account_sequence_number(AccountAddress.from_str(PAYER)),
            "before": await client.account_sequence_number(AccountAddress.from_str(PAYER), version - 1),
            "pending": await client.transaction_pending(waiting),
            "settled": not await client.transaction_pending(sent),
            "codes": (missing.value.status_code, beyond.value.status_code),
        }
    finally:
        await client.close()  # type: ignore[no-untyped-call]


def test_the_official_client_reads_the_double() -> None:
    with AptosNode() as node:
        node.mine(3)
        sent = node.ledger.submit(Move(PAYEE, 5, USDT), sender=PAYER)
        node.mine()
        waiting = node.ledger.submit(Move(PAYEE, 6, USDT), sender=PAYER)
        found = asyncio.run(told(node.url, sent, waiting))
    tx = found["tx"]
    assert found["chain_id"] == 1 and found["info"]["node_role"] == "full_node"
    assert tx["success"] and tx["type"] == "user_transaction" and tx == found["by_version"] == found["page"][0]
    assert len(found["page"]) == 2 and tx in found["block"]["transactions"]
    assert found["by_height"]["block_height"] == "2" and found["by_height"]["transactions"] is None
    assert (found["number"], found["before"]) == (1, 0)
    assert found["pending"] and found["settled"]
    assert found["codes"] == (404, 404)


@pytest.mark.parametrize("coin_type", ["0xf22bede::asset::USDT", "0x7fd5::swap::LPToken<0x1::a::B, 0x2::c::D>"])
def test_the_official_client_derives_the_same_paired_asset(coin_type: str) -> None:
    derived = AccountAddress.for_named_object(AccountAddress.from_str("0xa"), coin_type.encode())
    assert paired_metadata(coin_type) == "0x" + derived.address.hex()
