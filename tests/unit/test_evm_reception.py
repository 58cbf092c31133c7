"""What nodes say of a broadcast."""

import pytest

from chains.errors import RefusedError
from chains.evm import reception
from chains.sending import Reception


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("already known", Reception.TAKEN),
        ("ALREADY_EXISTS: already known", Reception.TAKEN),
        ("AlreadyKnown", Reception.TAKEN),
        ("Known transaction", Reception.TAKEN),
        ("existing txn with same hash", Reception.TAKEN),
        ("INTERNAL_ERROR: existing tx with same hash", Reception.TAKEN),
        ("transaction already imported", Reception.TAKEN),
        ("Transaction with the same hash was already imported.", Reception.TAKEN),
        ("nonce too low: next nonce 8, tx nonce 7", Reception.LATE),
        ("Nonce too low", Reception.LATE),
        ("OldNonce, Current nonce: 8, nonce of rejected tx: 7", Reception.LATE),
        ("Transaction nonce is too low. Try incrementing the nonce.", Reception.LATE),
        ("replacement transaction underpriced", Reception.LOW),
        ("transaction underpriced: tip needed 1000000, tip permitted 0", Reception.LOW),
        ("transaction underpriced, so it is either in pool2 or pool3", Reception.LOW),
        ("transaction gas price below minimum: gas tip cap 0, minimum needed 1", Reception.LOW),
        ("max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 7", Reception.LOW),
        ("INTERNAL_ERROR: could not replace existing tx", Reception.LOW),
        ("fee too low", Reception.LOW),
        ("FeeTooLowToCompete", Reception.LOW),
        ("ReplacementNotAllowed", Reception.LOW),
        ("Gas price below current base fee", Reception.LOW),
        (
            "Transaction gas price is too low. There is another transaction with same nonce in the queue.",
            Reception.LOW,
        ),
        ("insufficient funds for gas * price + value", Reception.REFUSED),
        ("intrinsic gas too low: gas 20000, minimum needed 21000", Reception.REFUSED),
        ("nonce too high: tx nonce 9, gapped nonce 7", Reception.REFUSED),
        ("in-flight transaction limit reached for delegated accounts", Reception.REFUSED),
        ("tx fee (1.05 ether) exceeds the configured cap (1.00 ether)", Reception.REFUSED),
    ],
)
def test_what_the_words_of_a_node_mean(words: str, meant: Reception) -> None:
    refusal = RefusedError(f"node refused eth_sendRawTransaction: {words}")
    refusal.words = words
    assert reception.of(refusal).reception is meant
