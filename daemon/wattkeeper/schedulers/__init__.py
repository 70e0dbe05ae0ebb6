"""Schedulers: who is behind a holder. One file each."""
