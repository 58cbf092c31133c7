"""A payment as a message of Solana: the same for the sender, which tries it, and for the signer, which signs it. Pure.

Two orders that are alike would be one transaction, and pay once: so the transfer names one account more, which is the
hash of the order's reference (as Solana Pay's references: nobody's, and not touched). By it a payment is found, too.

`Terms.fields` (numbers that may be large are strings):

    blockhash, slot           of a final block; `Terms.ends` is its height and LIFE
    unit_limit, unit_price    compute units at most, and the micro-lamports that each of them is paid
    program, decimals, opens  of a token: its program, what its mint says, and whether its recipient's account is opened

Fees: 5,000 lamports a signature, and limit times price, rounded up, whether used or not (solana.com/docs/core/fees).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.token.instructions import create_idempotent_associated_token_account, transfer_checked
from spl.token.models import TransferCheckedParams

from chains.fields import U64_MAX
from chains.sending import Order
from chains.solana.formats import canonical_tag, key, parse_address
from chains.solana.instructions import TOKENS
from chains.solana.transfers import associated
from core.errors import InvalidRequestError

LIFE = 152
"""So many blocks above the one that it names, and in all above that, it is taken no more.

Agave takes it while the hash is among the last 151 (`is_hash_index_valid`: an age of at most 150, counted from the
parent), and tells 150 as `lastValidBlockHeight`: we go by the longer one.
"""
SIGNATURE_LAMPORTS = 5_000
OPENING_LAMPORTS_MAX = 2_672_640
"""The rent of a token account of 256 bytes. SPL Token's have 165 (2,039,280 lamports), Token-2022's a little more."""
OPENED_BYTES_MAX = 256
UNITS_MAX = 1_400_000
"""Compute units that a transaction can be given."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
_MICRO = 10**6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a payment is made, as `Terms.fields` says it."""

    blockhash: str
    slot: int
    unit_limit: int
    unit_price: int
    program: str | None = None
    decimals: int = 0
    opens: bool = False

    @property
    def fee_max(self) -> int:
        """Lamports."""
        priority = -(-self.unit_limit * self.unit_price // _MICRO)
        return SIGNATURE_LAMPORTS + priority + (OPENING_LAMPORTS_MAX if self.opens else 0)

    def fields(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "blockhash": self.blockhash,
            "slot": str(self.slot),
            "unit_limit": str(self.unit_limit),
            "unit_price": str(self.unit_price),
        }
        if self.program is not None:
            told |= {"program": self.program, "decimals": self.decimals, "opens": self.opens}
        return told


def plan_of(fields: Mapping[str, Any]) -> Plan:
    """Raises ValueError for what is none."""
    token = {"program", "decimals", "opens"} if "program" in fields else set()
    if fields.keys() != {"blockhash", "slot", "unit_limit", "unit_price", *token}:
        raise ValueError(f"{sorted(fields)} are not the fields of a payment")
    blockhash, program, decimals, opens = (fields.get(name) for name in ("blockhash", "program", "decimals", "opens"))
    if not isinstance(blockhash, str) or key(blockhash) is None:
        raise ValueError("the blockhash is not 32 bytes in base58")
    if token and (program not in TOKENS or type(decimals) is not int or not 0 <= decimals <= 255):  # noqa: PLR2004
        raise ValueError("no token program, or no number of decimals")
    if token and type(opens) is not bool:
        raise ValueError("whether it opens an account is not said")
    return Plan(
        blockhash=blockhash,
        slot=_number(fields["slot"]),
        unit_limit=_number(fields["unit_limit"], UNITS_MAX),
        unit_price=_number(fields["unit_price"]),
        program=program,
        decimals=decimals or 0,
        opens=bool(opens),
    )


def _number(value: object, most: int = U64_MAX) -> int:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or int(value) > most:
        raise ValueError(f"{value!r:.40} is not a number from 0 to {most}")
    return int(value)


def mint_of(order: Order) -> str | None:
    """None: it pays SOL. Raises ValueError for an asset that is no payment of this chain's."""
    chain, _, asset = order.asset.partition("/")
    if chain == order.chain:
        if asset == "slip44:501":
            return None
        kind, _, mint = asset.partition(":")
        if kind == "token" and key(mint) is not None:
            return mint
    raise ValueError(f"{order.asset!r:.120} is no asset of {order.chain}")


def check_recipient(order: Order) -> None:
    """Raises ValueError unless somebody can be paid there."""
    try:
        if parse_address(order.chain, order.to) != order.to:
            raise ValueError("the recipient is spelled oddly")
    except InvalidRequestError as error:
        raise ValueError(str(error)) from None
    if order.to == order.wallet:
        raise ValueError("it pays the wallet that pays it")
    if order.tag is not None and canonical_tag(order.tag) != order.tag:
        raise ValueError("the tag is not printable text of 1 to 64 bytes")


def message(order: Order, plan: Plan) -> Message:
    """Of the oldest format, which everybody reads; it needs no lookup table. Raises ValueError."""
    check_recipient(order)
    if not 0 < order.units <= U64_MAX:
        raise ValueError(f"{order.units} units can't be paid")
    mint, payer = mint_of(order), Pubkey.from_string(order.wallet)
    if (mint is None) != (plan.program is None):
        raise ValueError("a token's fields for SOL, or the other way round")
    parts = [set_compute_unit_limit(plan.unit_limit), set_compute_unit_price(plan.unit_price)]
    if order.tag is not None:
        parts.append(Instruction(MEMO_PROGRAM_ID, order.tag.encode(), []))
    if mint is None or plan.program is None:
        pays = TransferParams(from_pubkey=payer, to_pubkey=Pubkey.from_string(order.to), lamports=order.units)
        paying = transfer(pays)
    else:
        if plan.opens:
            owner, coin, program = map(Pubkey.from_string, (order.to, mint, plan.program))
            parts.append(create_idempotent_associated_token_account(payer, owner, coin, program))
        paying = _token_transfer(order, mint, plan.program, plan.decimals)
    named = AccountMeta(reference_key(order.reference), is_signer=False, is_writable=False)
    parts.append(Instruction(paying.program_id, paying.data, [*paying.accounts, named]))
    return Message.new_with_blockhash(parts, payer, Hash.from_string(plan.blockhash))


def reference_key(reference: str) -> Pubkey:
    return Pubkey(hashlib.sha256(f"tallyrail:{reference}".encode()).digest())


def _token_transfer(order: Order, mint: str, program: str, decimals: int) -> Instruction:
    return transfer_checked(
        TransferCheckedParams(
            program_id=Pubkey.from_string(program),
            source=Pubkey.from_string(associated(order.wallet, mint, program)),
            mint=Pubkey.from_string(mint),
            dest=Pubkey.from_string(associated(order.to, mint, program)),
            owner=Pubkey.from_string(order.wallet),
            amount=order.units,
            decimals=decimals,
        )
    )
