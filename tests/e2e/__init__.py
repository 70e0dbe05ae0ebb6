"""Whole programs as a user starts them, against hardware whose joules are known."""
