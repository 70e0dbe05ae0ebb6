"""Questions that the ledger answers. Plain functions: they block, so call them in a thread."""
