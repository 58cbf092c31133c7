"""Each payout provider's credentials, its address, and what our contract with it allows."""
