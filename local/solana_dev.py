"""What tests and the demo do on the development chain (solana_node.py): pay, make tokens, write memos, mine.

Addresses and signatures are base58, units lamports or the token's.
"""

import base64
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.system_program import (
    CreateAccountParams,
    CreateLookupTableParams,
    ExtendLookupTableParams,
    TransferParams,
    create_account,
    create_lookup_table,
    extend_lookup_table,
    transfer,
)
from solders.transaction import VersionedTransaction
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.token import models
from spl.token.constants import MINT_LEN, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID
from spl.token.instructions import (
    create_idempotent_associated_token_account,
    get_associated_token_address,
    initialize_mint2,
    initialize_transfer_fee_config,
    mint_to,
    transfer_checked,
)

RICH = 10**16
SUPPLY = 10**15
_FEE_MINT_LEN = 278
"""A mint's account with the transfer fee extension."""


class SolanaDevError(Exception):
    """The node refused."""


@dataclass(frozen=True)
class Mint:
    address: Pubkey
    program: Pubkey
    decimals: int

    def account_of(self, owner: str) -> Pubkey:
        """The owner's associated token account."""
        return get_associated_token_address(Pubkey.from_string(owner), self.address, self.program)


class SolanaDev:
    """A rich wallet at a running development node. Transactions wait until `mine`. Not thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(timeout=30, trust_env=False)  # no proxy: the node is on this machine
        self._ids = itertools.count(1)
        self._unique = itertools.count(300_000)
        genesis: str = self.rpc("getGenesisHash")
        self.chain = f"solana:{genesis[:32]}"
        self.payer = Keypair()
        self.rpc("devSetLamports", str(self.payer.pubkey()), RICH)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rpc(self, method: str, *params: Any) -> Any:
        """Any method of the node. Raises SolanaDevError with the node's words."""
        call = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        reply = self._http.post(self.url, json=call).raise_for_status().json()
        if "error" in reply:
            raise SolanaDevError(f"{method}: {reply['error'].get('message')}")
        return reply["result"]

    # The chain

    def mine(self, blocks: int = 1) -> None:
        self.rpc("devMine", blocks)

    def skip(self, slots: int = 1) -> None:
        self.rpc("devSkip", slots)

    def drop(self, signature: str) -> None:
        self.rpc("devDrop", signature)

    def new_address(self, *, units: int | None = None) -> str:
        """A wallet that holds just what every account must, so that it can be sent any amount."""
        address = str(Keypair().pubkey())
        self.rpc(
            "devSetLamports", address, self.rpc("getMinimumBalanceForRentExemption", 0) if units is None else units
        )
        return address

    # Instructions

    def coin(self, to: str, units: int, *references: str) -> Instruction:
        return _referring(
            transfer(TransferParams(from_pubkey=self.payer.pubkey(), to_pubkey=Pubkey.from_string(to), lamports=units)),
            references,
        )

    def token(self, mint: Mint, to: str, units: int, *references: str) -> Instruction:
        """To the owner's associated account, which must exist: `account`."""
        return _referring(
            transfer_checked(
                models.TransferCheckedParams(
                    program_id=mint.program,
                    source=mint.account_of(str(self.payer.pubkey())),
                    mint=mint.address,
                    dest=mint.account_of(to),
                    owner=self.payer.pubkey(),
                    amount=units,
                    decimals=mint.decimals,
                )
            ),
            references,
        )

    def account(self, mint: Mint, owner: str) -> Instruction:
        """Open the owner's associated token account, if it isn't."""
        return create_idempotent_associated_token_account(
            self.payer.pubkey(), Pubkey.from_string(owner), mint.address, mint.program
        )

    def minting(self, mint: Mint, owner: str, units: int) -> Instruction:
        return mint_to(
            models.MintToParams(
                program_id=mint.program,
                mint=mint.address,
                dest=mint.account_of(owner),
                mint_authority=self.payer.pubkey(),
                amount=units,
            )
        )

    def memo(self, text: str, *, program: Pubkey = MEMO_PROGRAM_ID) -> Instruction:
        return Instruction(program, text.encode(), [])

    # Transactions

    def send(
        self,
        *instructions: Instruction,
        signers: Sequence[Keypair] = (),
        version: int | None = 0,
        tables: Sequence[AddressLookupTableAccount] = (),
        payer: Keypair | None = None,
    ) -> str:
        """One transaction with all of these. Returns its signature. `version` None: the oldest format."""
        pays = payer or self.payer
        blockhash = Hash.from_string(self.rpc("getLatestBlockhash", {"commitment": "processed"})["value"]["blockhash"])
        # A limit of its own for each, or two alike would be the same transaction.
        parts = [set_compute_unit_limit(next(self._unique)), *instructions]
        message: Message | MessageV0 | MessageV1
        if version is None:
            message = Message.new_with_blockhash(parts, pays.pubkey(), blockhash)
        elif version == 0:
            message = MessageV0.try_compile(pays.pubkey(), parts, list(tables), blockhash)
        else:
            message = MessageV1.try_compile(pays.pubkey(), parts, blockhash)
        tx = VersionedTransaction(message, [pays, *signers])
        config = {"encoding": "base64", "skipPreflight": True}
        sent: str = self.rpc("sendTransaction", base64.b64encode(bytes(tx)).decode(), config)
        return sent

    def pay(self, to: str, units: int) -> str:
        return self.send(self.coin(to, units))

    def pay_token(self, mint: Mint, to: str, units: int) -> str:
        return self.send(self.account(mint, to), self.token(mint, to, units))

    def new_mint(self, decimals: int = 6, *, fee_bps: int | None = None) -> Mint:
        """A token of which this wallet has plenty; with a fee, one of Token-2022 that keeps that much of each transfer.

        Mines a block.
        """
        key = Keypair()
        program = TOKEN_PROGRAM_ID if fee_bps is None else TOKEN_2022_PROGRAM_ID
        mint = Mint(key.pubkey(), program, decimals)
        size = MINT_LEN if fee_bps is None else _FEE_MINT_LEN
        me = self.payer.pubkey()
        instructions = [
            create_account(
                CreateAccountParams(
                    from_pubkey=me,
                    to_pubkey=key.pubkey(),
                    lamports=self.rpc("getMinimumBalanceForRentExemption", size),
                    space=size,
                    owner=program,
                )
            )
        ]
        if fee_bps is not None:
            instructions.append(
                initialize_transfer_fee_config(
                    models.InitializeTransferFeeConfigParams(
                        program_id=program,
                        mint=key.pubkey(),
                        transfer_fee_config_authority=me,
                        withdraw_withheld_authority=me,
                        transfer_fee_basis_points=fee_bps,
                        maximum_fee=SUPPLY,
                    )
                )
            )
        instructions += [
            initialize_mint2(
                models.InitializeMint2Params(
                    decimals=decimals, program_id=program, mint=key.pubkey(), mint_authority=me
                )
            ),
            self.account(mint, str(me)),
            self.minting(mint, str(me), SUPPLY),
        ]
        self._done(self.send(*instructions, signers=[key]))
        return mint

    def new_table(self, *addresses: str) -> AddressLookupTableAccount:
        """A lookup table of these accounts. Mines blocks."""
        me = self.payer.pubkey()
        self.mine()
        create, table = create_lookup_table(
            CreateLookupTableParams(
                authority_address=me,
                payer_address=me,
                recent_slot=self.rpc("getSlot", {"commitment": "processed"}),
            )
        )
        keys = [Pubkey.from_string(address) for address in addresses]
        extend = extend_lookup_table(
            ExtendLookupTableParams(
                lookup_table_address=table, authority_address=me, payer_address=me, new_addresses=keys
            )
        )
        self._done(self.send(create, extend))
        self.mine()  # it can be used from the next slot on
        return AddressLookupTableAccount(table, keys)

    def _done(self, signature: str) -> None:
        self.mine()
        (status,) = self.rpc("getSignatureStatuses", [signature])["value"]
        if status is None or status["err"] is not None:
            raise SolanaDevError(f"{signature} did not succeed: {status}")


def _referring(instruction: Instruction, references: Sequence[str]) -> Instruction:
    """With further keys that do nothing: by these the payment is found (Solana Pay)."""
    extra = [AccountMeta(Pubkey.from_string(name), is_signer=False, is_writable=False) for name in references]
    return Instruction(instruction.program_id, instruction.data, [*instruction.accounts, *extra])
