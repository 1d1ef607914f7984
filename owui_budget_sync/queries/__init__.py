"""Questions that operators ask of the ledger and the policy store, answered as values."""
