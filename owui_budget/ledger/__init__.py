"""The ledger: counters, reservations and the append-only usage events, behind one protocol."""
