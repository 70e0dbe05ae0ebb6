"""The node's composition root: configuration, the tick, the sender, `/metrics` and control."""
