"""What is told of payments that the real programs executed, by transaction and by scan."""

from collections.abc import Iterator

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from spl.token import models
from spl.token.constants import TOKEN_PROGRAM_ID, WRAPPED_SOL_MINT
from spl.token.instructions import (
    close_account,
    initialize_account3,
    sync_native,
    transfer_checked,
)

from chains.base import TxStatus
from chains.solana.formats import new_tag
from chains.solana.transfers import REST
from local.solana_dev import Mint, SolanaDev
from local.solana_node import SolanaNode
from tests.support.solana import asset_of, read_both, reader_of, settled, to

OUTER = 1 << 28
FIRST = OUTER
"""The first instruction behind the one that makes each transaction unique."""
SOL = 10**9


@pytest.fixture(scope="module")
def node() -> Iterator[SolanaNode]:
    with SolanaNode() as node:
        yield node


@pytest.fixture(scope="module")
def dev(node: SolanaNode) -> Iterator[SolanaDev]:
    with SolanaDev(node.url) as dev:
        yield dev


@pytest.fixture(scope="module")
def mint(dev: SolanaDev) -> Mint:
    return dev.new_mint()


@pytest.fixture(scope="module")
def taxed(dev: SolanaDev) -> Mint:
    return dev.new_mint(fee_bps=100)


def me(dev: SolanaDev) -> str:
    return str(dev.payer.pubkey())


@pytest.mark.parametrize("version", [None, 0, 1])
def test_every_version_of_transactions_is_read(dev: SolanaDev, mint: Mint, version: int | None) -> None:
    """Version 1 has been on mainnet since September 2026."""
    payee = dev.new_address()
    signature = dev.send(
        dev.coin(payee, 5), dev.account(mint, payee), dev.token(mint, payee, 6), dev.memo("seven"), version=version
    )
    settled(dev)
    tx = read_both(reader_of(dev, mint), signature, payee)
    told = [(one.index, one.asset, one.contract, one.sender, one.units, one.tags) for one in tx.transfers]
    assert tx.sender == me(dev) and told == [
        (FIRST, f"{dev.chain}/slip44:501", None, me(dev), 5, ("seven",)),
        (FIRST + 2 * OUTER, asset_of(dev, mint), str(mint.address), me(dev), 6, ("seven",)),
    ]


def test_accounts_from_a_lookup_table_are_read(dev: SolanaDev, mint: Mint) -> None:
    payee = dev.new_address()
    table = dev.new_table(payee, str(mint.account_of(payee)), str(mint.address), new_tag(dev.chain))
    reference = str(table.addresses[3])
    signature = dev.send(
        dev.account(mint, payee),
        dev.coin(payee, 5, reference),
        dev.token(mint, payee, 6, reference),
        tables=[table],
    )
    settled(dev)
    tx = read_both(reader_of(dev, mint), signature, payee)
    meta = dev.rpc("getTransaction", signature, {"maxSupportedTransactionVersion": 0})["meta"]
    assert sorted(meta["loadedAddresses"]["writable"]) == sorted([payee, str(mint.account_of(payee))])
    assert sorted(meta["loadedAddresses"]["readonly"]) == sorted([str(mint.address), reference])
    assert [(one.units, one.tags) for one in tx.transfers] == [(5, (reference,)), (6, (reference,))]


def test_several_payments_in_one_transaction_are_several_transfers(dev: SolanaDev, mint: Mint) -> None:
    one, other = dev.new_address(), dev.new_address()
    signature = dev.send(
        dev.coin(one, 5),
        dev.coin(other, 6),
        dev.coin(one, 5),
        dev.account(mint, one),
        dev.token(mint, one, 7),
        dev.token(mint, one, 8),
        dev.coin(one, 0),
    )
    settled(dev)
    tx = read_both(reader_of(dev, mint), signature, one, other)
    assert [(part.index // OUTER, part.recipient, part.units) for part in tx.transfers] == [
        (1, one, 5),
        (2, other, 6),
        (3, one, 5),
        (5, one, 7),
        (6, one, 8),
        (7, one, 0),
    ]


def test_what_is_paid_out_again_in_the_same_transaction_did_not_arrive(dev: SolanaDev) -> None:
    key = Keypair()
    payee = str(key.pubkey())
    dev.rpc("devSetLamports", payee, SOL)
    back = transfer(TransferParams(from_pubkey=key.pubkey(), to_pubkey=dev.payer.pubkey(), lamports=30))
    part = dev.send(dev.coin(payee, 100), back, dev.coin(payee, 20), signers=[key])
    more = dev.send(dev.coin(payee, 10), back, signers=[key])
    settled(dev)
    reader = reader_of(dev)
    assert [(one.index, one.units) for one in to(read_both(reader, part, payee), payee)] == [(FIRST, 90)]
    assert [one.units for one in to(read_both(reader, more, payee), payee)] == [0]


def test_who_pays_himself_has_paid_nothing(dev: SolanaDev) -> None:
    signature = dev.pay(me(dev), SOL)
    settled(dev)
    assert [one.units for one in read_both(reader_of(dev), signature, me(dev)).transfers] == [0]


def test_a_closed_accounts_rent_is_money_that_arrived_from_nobody(dev: SolanaDev, mint: Mint) -> None:
    key, payee = Keypair(), dev.new_address()
    owner = str(key.pubkey())
    dev.send(dev.account(mint, owner))
    dev.mine()
    closing = close_account(
        models.CloseAccountParams(
            program_id=mint.program,
            account=mint.account_of(owner),
            dest=Pubkey.from_string(payee),
            owner=key.pubkey(),
        )
    )
    rent = dev.rpc("getMinimumBalanceForRentExemption", 165)
    signature = dev.send(dev.coin(payee, 5), closing, dev.memo("seven"), signers=[key])
    settled(dev)
    told = read_both(reader_of(dev, mint), signature, payee).transfers
    assert [(one.units, one.sender, one.tags) for one in told] == [(5, me(dev), ("seven",)), (rent, None, ())]
    assert told[0].index == FIRST and told[1].index >= REST


def test_what_programs_accounts_hold_more_is_no_payment(dev: SolanaDev, mint: Mint) -> None:
    """Nobody's wallet: an account whose address is derived."""
    key = Keypair()
    derived, _ = Pubkey.find_program_address([bytes(key.pubkey())], TOKEN_PROGRAM_ID)
    dev.send(dev.account(mint, str(key.pubkey())))
    dev.mine()
    closing = close_account(
        models.CloseAccountParams(
            program_id=mint.program, account=mint.account_of(str(key.pubkey())), dest=derived, owner=key.pubkey()
        )
    )
    signature = dev.send(closing, signers=[key])
    settled(dev)
    tx = reader_of(dev, mint).chain_txs([signature])[signature]
    assert tx.status is TxStatus.SUCCEEDED and tx.transfers == ()


def test_wrapped_sol_is_a_token_and_not_sol(dev: SolanaDev) -> None:
    wrapped, payee = Mint(WRAPPED_SOL_MINT, TOKEN_PROGRAM_ID, 9), dev.new_address()
    syncing = sync_native(models.SyncNativeParams(program_id=TOKEN_PROGRAM_ID, account=wrapped.account_of(payee)))
    filling = dev.coin(str(wrapped.account_of(payee)), SOL)
    signature = dev.send(dev.account(wrapped, payee), filling, syncing)
    settled(dev)
    (told,) = read_both(reader_of(dev), signature, payee).transfers
    assert (told.asset, told.contract, told.units, told.sender) == (None, str(WRAPPED_SOL_MINT), SOL, None)
    assert told.index >= REST
    assert [one.asset for one in reader_of(dev, wrapped).chain_txs([signature])[signature].transfers] == [
        asset_of(dev, wrapped)
    ]


def test_freshly_minted_tokens_have_arrived(dev: SolanaDev, mint: Mint) -> None:
    payee = dev.new_address()
    signature = dev.send(dev.account(mint, payee), dev.token(mint, payee, 3), dev.minting(mint, payee, 4))
    settled(dev)
    told = read_both(reader_of(dev, mint), signature, payee).transfers
    assert [(one.units, one.sender, one.index >= REST) for one in told] == [(3, me(dev), False), (4, None, True)]


def test_a_fee_that_the_token_takes_did_not_arrive(dev: SolanaDev, taxed: Mint) -> None:
    """Token-2022: 1 % of each transfer is withheld."""
    payee = dev.new_address()
    plain = dev.token(taxed, payee, 10_000)
    # TransferCheckedWithFee (26, 1): amount, decimals, fee
    data = bytes([26, 1]) + (5_000).to_bytes(8, "little") + bytes([6]) + (50).to_bytes(8, "little")
    with_fee = Instruction(plain.program_id, data, plain.accounts)
    one = dev.send(dev.account(taxed, payee), plain)
    two = dev.send(dev.account(taxed, payee), with_fee)
    both = dev.send(dev.account(taxed, payee), plain, with_fee)
    twice = dev.send(dev.account(taxed, payee), with_fee, with_fee)
    settled(dev)
    reader = reader_of(dev, taxed)
    (first,) = read_both(reader, one, payee).transfers
    (second,) = read_both(reader, two, payee).transfers
    (third,) = read_both(reader, both, payee).transfers
    assert (first.units, second.units, third.units) == (9_900, 4_950, 9_900 + 4_950)
    # Where the instruction names the fee, each payment stays one of its own.
    each = read_both(reader, twice, payee).transfers
    assert [(one.index // OUTER, one.units) for one in each] == [(2, 4_950), (3, 4_950)]
    assert first.asset == asset_of(dev, taxed) and first.sender == me(dev)
    balance = dev.rpc("getTokenAccountBalance", str(taxed.account_of(payee)))["value"]["amount"]
    assert int(balance) == sum(one.units for one in (first, second, third, *each))


def test_a_batch_of_the_token_program_is_read_part_by_part(dev: SolanaDev, mint: Mint) -> None:
    """p-token (SIMD-0266): what one instruction does to several accounts leaves no inner instructions."""
    one, other = dev.new_address(), dev.new_address()
    parts = [dev.token(mint, one, 3), dev.token(mint, other, 4), dev.token(mint, one, 5)]
    data = bytes([255]) + b"".join(bytes([len(part.accounts), len(part.data)]) + bytes(part.data) for part in parts)
    batch = Instruction(mint.program, data, [account for part in parts for account in part.accounts])
    signature = dev.send(dev.account(mint, one), dev.account(mint, other), batch)
    settled(dev)
    told = read_both(reader_of(dev, mint), signature, one, other).transfers
    assert [(part.index, part.recipient, part.units, part.sender) for part in told] == [
        (3 * OUTER + 1, one, 3, me(dev)),
        (3 * OUTER + 2, other, 4, me(dev)),
        (3 * OUTER + 3, one, 5, me(dev)),
    ]


def test_only_the_associated_account_is_the_owners(dev: SolanaDev, mint: Mint) -> None:
    payee, key = dev.new_address(), Keypair()
    opening = create_account(
        CreateAccountParams(
            from_pubkey=dev.payer.pubkey(),
            to_pubkey=key.pubkey(),
            lamports=dev.rpc("getMinimumBalanceForRentExemption", 165),
            space=165,
            owner=mint.program,
        )
    )
    naming = initialize_account3(
        models.InitializeAccount3Params(
            program_id=mint.program, account=key.pubkey(), mint=mint.address, owner=Pubkey.from_string(payee)
        )
    )
    paying = transfer_checked(
        models.TransferCheckedParams(
            program_id=mint.program,
            source=mint.account_of(me(dev)),
            mint=mint.address,
            dest=key.pubkey(),
            owner=dev.payer.pubkey(),
            amount=5,
            decimals=6,
        )
    )
    signature = dev.send(opening, naming, paying, signers=[key])
    settled(dev)
    assert read_both(reader_of(dev, mint), signature, payee).transfers == ()


def test_a_token_that_looks_like_ours_is_not_ours(dev: SolanaDev, mint: Mint) -> None:
    payee, fake = dev.new_address(), dev.new_mint()
    signature = dev.pay_token(fake, payee, 5)
    settled(dev)
    (told,) = read_both(reader_of(dev, mint), signature, payee).transfers
    assert (told.asset, told.contract, told.units) == (None, str(fake.address), 5)


def test_tokens_are_found_where_the_owner_is_not_named(dev: SolanaDev, mint: Mint) -> None:
    """An account that is open already is paid without a word of its owner, so the scan has to look at the account."""
    payee = dev.new_address()
    dev.send(dev.account(mint, payee))
    dev.mine()
    signature = dev.send(dev.token(mint, payee, 5))
    settled(dev)
    (told,) = read_both(reader_of(dev, mint), signature, payee).transfers
    assert (told.recipient, told.units) == (payee, 5)


# --- tags -----------------------------------------------------------------------------------------------------------

MEMO_1 = Pubkey.from_string("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo")


def test_memos_belong_to_the_payment_behind_them_and_the_last_to_the_last(dev: SolanaDev, mint: Mint) -> None:
    """Solana Pay writes the memo before the payment; the command line tools write it behind."""
    payee, other = dev.new_address(), dev.new_address()
    signature = dev.send(
        dev.memo(" one "),
        dev.coin(payee, 1),
        dev.memo("two"),
        dev.coin(other, 2),
        dev.memo("three", program=MEMO_1),
        dev.coin(payee, 3),
        dev.memo("four"),
    )
    settled(dev)
    tx = read_both(reader_of(dev, mint), signature, payee, other)
    assert [(one.units, one.tags) for one in tx.transfers] == [
        (1, ("one",)),
        (2, ("one", "two", "three", "four")),
        (3, ("two", "three", "four")),
    ]


def test_memos_that_nobody_could_have_given_out_are_no_tags(dev: SolanaDev) -> None:
    payee = dev.new_address()
    junk = ["", " ", "x" * 65, "x" * 400, "a\x00b", "a\nb", "\u202e", "=1+1"]
    signature = dev.send(*map(dev.memo, junk), dev.coin(payee, 1))
    settled(dev)
    assert [one.tags for one in read_both(reader_of(dev), signature, payee).transfers] == [("=1+1",)]


def test_reference_keys_are_read_only_keys_that_sign_nothing(dev: SolanaDev, mint: Mint) -> None:
    payee, signer = dev.new_address(), Keypair()
    first, second, written = new_tag(dev.chain), new_tag(dev.chain), dev.new_address()
    coin = dev.coin(payee, 1, first, second)
    extra = [
        AccountMeta(Pubkey.from_string(written), is_signer=False, is_writable=True),
        AccountMeta(signer.pubkey(), is_signer=True, is_writable=False),
    ]
    odd = Instruction(coin.program_id, coin.data, [*coin.accounts, *extra])
    signature = dev.send(dev.account(mint, payee), odd, dev.token(mint, payee, 2, second), signers=[signer])
    settled(dev)
    tx = read_both(reader_of(dev, mint), signature, payee)
    assert [(one.units, one.tags) for one in tx.transfers] == [(1, (first, second)), (2, (second,))]


# --- what becomes of a transaction ------------------------------------------------------------------------------------


def test_only_what_is_final_is_in_a_block(dev: SolanaDev) -> None:
    payee, reader = dev.new_address(), reader_of(dev)
    signature = dev.pay(payee, 5)
    for _ in range(3):
        tx = reader.chain_txs([signature])[signature]
        assert (tx.status, tx.block_number, tx.transfers) == (TxStatus.MEMPOOL, None, ())
        dev.mine()
    tx = reader.chain_txs([signature])[signature]
    assert tx.status is TxStatus.SUCCEEDED and tx.block_number == reader.head().latest.number
    assert reader.head().finalized == tx.block_number


def test_a_dropped_transaction_is_missing(dev: SolanaDev) -> None:
    signature = dev.pay(dev.new_address(), 5)
    dev.drop(signature)
    settled(dev)
    assert reader_of(dev).chain_txs([signature])[signature].status is TxStatus.MISSING


def test_a_failed_transaction_has_no_transfers(dev: SolanaDev, mint: Mint) -> None:
    payee = dev.new_address()
    dev.send(dev.account(mint, payee))
    dev.mine()
    signature = dev.send(dev.coin(payee, 5), dev.token(mint, payee, 5), dev.coin(payee, 2**63))
    last = settled(dev)
    reader = reader_of(dev, mint)
    tx = reader.chain_txs([signature])[signature]
    assert tx.status is TxStatus.REVERTED and tx.transfers == () and tx.block_number is not None
    assert reader.scan(tx.block_number, last, [payee]).transfers == ()
