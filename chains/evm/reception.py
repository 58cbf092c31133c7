"""What a node's words about a broadcast mean. There is no standard for them, so they are collected here.

| Node | Words | Where they stand |
|---|---|---|
| geth, BSC, op-geth, Arbitrum | already known; nonce too low; replacement transaction underpriced; transaction underpriced; transaction gas price below minimum; max fee per gas less than block base fee | core/txpool/errors.go, core/error.go |
| BSC | transaction underpriced, so it is either in pool2 or pool3 | its core/txpool/errors.go |
| Erigon | already known; existing txn with same hash; nonce too low; underpriced; fee too low; could not replace existing tx | txnprovider/txpool/txpoolcfg/txpoolcfg.go |
| Nethermind | as geth's since 2026; before that AlreadyKnown, OldNonce, FeeTooLow, FeeTooLowToCompete, ReplacementNotAllowed | Nethermind.TxPool/TxPoolErrorMessages.cs, AcceptTxResult.cs |
| reth | as geth's | crates/rpc/rpc-eth-types/src/error/mod.rs |
| Besu | Known transaction; Nonce too low; Replacement transaction underpriced; Gas price below ...; | RpcErrorType.java |
| OpenEthereum | Transaction with the same hash was already imported; Transaction nonce is too low; Transaction gas price ... is too low | rpc/src/v1/helpers/errors.rs |
| anvil | transaction already imported; nonce too low; replacement transaction underpriced; max fee per gas less than block base fee | crates/anvil/src/eth/error.rs |
"""  # noqa: E501

import re

from chains.errors import RefusedError
from chains.sending import Broadcast, Reception

_WORDS = (
    (
        Reception.TAKEN,
        re.compile(
            r"already ?known|known transaction|already imported|existing (tx|txn) with same hash", re.IGNORECASE
        ),
    ),
    (Reception.LATE, re.compile(r"nonce (is )?too low|old ?nonce", re.IGNORECASE)),
    (
        Reception.LOW,
        re.compile(
            r"underpriced|fee ?too ?low|gas price.{0,60}(too low|below)|less than block base fee"
            r"|could not replace existing|replacement ?not ?allowed",
            re.IGNORECASE,
        ),
    ),
)
"""The first that is found counts."""


def of(refusal: RefusedError) -> Broadcast:
    for reception, words in _WORDS:
        if words.search(refusal.words):
            return Broadcast(reception=reception, why=str(refusal))
    return Broadcast(reception=Reception.REFUSED, why=str(refusal))
