"""Who asks, and what they may be told."""
