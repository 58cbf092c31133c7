"""solana-py, which knows nothing of us, on the development node: the wire format is not only ours.

And a second reader of what our own reader tells.
"""

import asyncio
from collections.abc import Iterator

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_status import UiTransaction

from local.solana_dev import SolanaDev
from local.solana_node import SolanaNode
from tests.support.solana import read_both, reader_of, settled

SOL = 10**9


@pytest.fixture(scope="module")
def node() -> Iterator[SolanaNode]:
    """One that makes blocks by the clock, as a cluster does."""
    with SolanaNode(slot_ms=30) as node:
        yield node


def test_airdrop_send_confirm_and_read(node: SolanaNode) -> None:
    payer, payee = Keypair(), Keypair().pubkey()

    async def run() -> Signature:
        async with AsyncClient(node.url, commitment=Confirmed) as client:
            assert await client.is_connected()
            dropped = (await client.request_airdrop(payer.pubkey(), 2 * SOL)).value
            await client.confirm_transaction(dropped, Finalized, sleep_seconds=0.02)
            assert (await client.get_balance(payer.pubkey())).value == 2 * SOL
            latest = (await client.get_latest_blockhash()).value
            paying = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=payee, lamports=SOL))
            message = MessageV0.try_compile(payer.pubkey(), [paying], [], latest.blockhash)
            sent = (await client.send_transaction(VersionedTransaction(message, [payer]))).value
            statuses = await client.confirm_transaction(
                sent, Finalized, sleep_seconds=0.02, last_valid_block_height=latest.last_valid_block_height
            )
            assert statuses.value[0] is not None and statuses.value[0].err is None
            await read(client, sent, payee)
            return sent

    async def read(client: AsyncClient, sent: Signature, payee: Pubkey) -> None:
        told = (await client.get_transaction(sent, commitment=Finalized, max_supported_transaction_version=0)).value
        assert told is not None and told.transaction.meta is not None
        assert isinstance(told.transaction.transaction, UiTransaction)
        assert told.transaction.meta.err is None and told.transaction.meta.fee == 5_000
        assert told.transaction.meta.post_balances[1] == SOL
        block = (await client.get_block(told.slot, max_supported_transaction_version=0)).value
        assert block is not None and block.block_time == told.block_time
        rows = (await client.get_signatures_for_address(payee, limit=5)).value
        assert [(row.signature, row.slot, row.err) for row in rows] == [(sent, told.slot, None)]
        assert told.slot in (await client.get_blocks(told.slot, told.slot + 5)).value

    sent = asyncio.run(run())
    with SolanaDev(node.url) as dev:
        (ours,) = read_both(reader_of(dev), str(sent), str(payee)).transfers
    assert (ours.sender, ours.recipient, ours.units) == (str(payer.pubkey()), str(payee), SOL)


def test_both_readers_tell_the_same_of_a_token() -> None:
    with SolanaNode() as node, SolanaDev(node.url) as dev:
        mint, payee = dev.new_mint(fee_bps=250), dev.new_address()
        signature = dev.pay_token(mint, payee, 1_000)
        settled(dev)
        (ours,) = read_both(reader_of(dev, mint), signature, payee).transfers

        async def theirs() -> tuple[int, str, int]:
            async with AsyncClient(node.url) as client:
                account = mint.account_of(payee)
                balance = (await client.get_token_account_balance(account)).value
                told = (
                    await client.get_transaction(Signature.from_string(signature), max_supported_transaction_version=0)
                ).value
                assert told is not None and told.transaction.meta is not None
                (after,) = [
                    held
                    for held in told.transaction.meta.post_token_balances or []
                    if str(held.owner) == payee and held.mint == mint.address
                ]
                block = (await client.get_block(told.slot, max_supported_transaction_version=0)).value
                assert block is not None and after.ui_token_amount.amount == balance.amount
                return int(balance.amount), str(block.blockhash), told.slot

        assert asyncio.run(theirs()) == (ours.units, ours.block_hash, ours.block_number) and ours.units == 975
