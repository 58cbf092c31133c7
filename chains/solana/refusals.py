"""Why Solana won't carry a payment: by what is read before, by the trial, and by what nodes say to a broadcast.

Errors by their names in solana-sdk's TransactionError and by their numbers in SPL Token's and Token-2022's TokenError.
"""

from chains.errors import RefusedError
from chains.http import HttpEndpoint
from chains.sending import Broadcast, Order, OrderRefusedError, Reception
from chains.solana.accounts import Account, Mint, token_account
from core.errors import TransientError

PREFLIGHT_FAILED = -32002
_VERDICTS = {PREFLIGHT_FAILED, -32003, -32602}
"""Errors about what was sent: its trial failed, its signatures are wrong, it is none. All others are about the node."""
_WHY_MAX = 200

_TOO_LITTLE = 1
"""The system program's and the token programs' alike."""
_NOT_TAKEN = {17, 36}
"""Of token programs: the account is frozen; it takes nothing without a memo."""
_NODES_OWN = {"BlockhashNotFound", "AccountInUse", "WouldExceedMaxBlockCostLimit", "ClusterMaintenance"}


def check_wallets(order: Order, payer: Account | None, recipient: Account | None) -> None:
    """Raises OrderRefusedError unless one can pay, and the other is nobody's machinery.

    What is sent to a token account or a mint, as if it were a wallet, is lost. An empty address may be a new wallet.
    """
    if payer is None:
        raise OrderRefusedError("funds", f"{order.wallet} has no SOL")
    if not payer.is_wallet:
        raise OrderRefusedError("order", f"{order.wallet} is no wallet")
    if recipient is not None and not recipient.is_wallet:
        raise OrderRefusedError("destination", f"{order.to} is no wallet: it belongs to {recipient.owner}")


def check_token(order: Order, token: Mint, ours: Account | None, theirs: Account | None) -> None:
    if token.takes_fee:
        raise OrderRefusedError("order", "the token takes a fee of transfers: who is paid would get less")
    source, target = token_account(ours), token_account(theirs)
    if source is None or source.frozen or source.units < order.units:
        held = "none" if source is None else "a frozen account" if source.frozen else str(source.units)
        raise OrderRefusedError("funds", f"{order.wallet} needs {order.units} of the token and has {held}")
    # Classic token accounts can be given to somebody else, and keep their address.
    if theirs is not None and target is not None and target.owner != order.to:
        raise OrderRefusedError("destination", f"the token account of {order.to} is somebody else's")
    if target is not None and target.frozen:
        raise OrderRefusedError("destination", f"the token account of {order.to} is frozen")


def check_coins(payer: Account | None, lamports: int) -> None:
    held = payer.lamports if payer is not None else 0
    if held < lamports:
        raise OrderRefusedError("funds", f"it takes {lamports} lamports, and there are {held}")


def of_trial(endpoint: HttpEndpoint, order: Order, error: object) -> TransientError | OrderRefusedError:
    """What a trial's `err` means."""
    if isinstance(error, str) and error in _NODES_OWN:
        return TransientError(f"{endpoint.label} could not try it: {error}")
    why = f"the trial failed: {endpoint.struck(str(error))[:_WHY_MAX]}"
    match error:
        case "AccountNotFound" | "InsufficientFundsForFee" | {"InsufficientFundsForRent": {"account_index": 0}}:
            return OrderRefusedError("funds", why)
        case {"InsufficientFundsForRent": _}:
            return OrderRefusedError("destination", f"{order.units} lamports are too few for an account to begin with")
        case {"InstructionError": [int(), {"Custom": int(code)}]} if code == _TOO_LITTLE:
            return OrderRefusedError("funds", why)
        case {"InstructionError": [int(), {"Custom": int(code)}]} if code in _NOT_TAKEN:
            return OrderRefusedError("destination", why)
    return OrderRefusedError("order", why)


def reception(endpoint: HttpEndpoint, refusal: RefusedError) -> Broadcast:
    """What a node made of a broadcast that it answered with an error. Raises it if it is about the node."""
    if refusal.code not in _VERDICTS:
        raise refusal
    made = Reception.REFUSED
    if refusal.code == PREFLIGHT_FAILED:
        words = refusal.words.lower()
        if "already been processed" in words:
            made = Reception.TAKEN
        elif "blockhash not found" in words:
            made = Reception.LATE
    return Broadcast(reception=made, why=endpoint.struck_cut(refusal.words[:_WHY_MAX]))
