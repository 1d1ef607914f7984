"""One database, two doors: the tables and migrations that the ledger and the policy store share."""
