"""A real PostgreSQL, and faults of its network."""
