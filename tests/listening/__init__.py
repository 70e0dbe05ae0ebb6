"""How both wings listen."""
