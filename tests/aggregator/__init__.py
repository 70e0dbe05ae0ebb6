"""The centre's HTTP side."""
