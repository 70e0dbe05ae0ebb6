"""What Wattkeeper costs and how fast it is, beside its peers. See README.md."""
