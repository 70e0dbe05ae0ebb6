"""The wire format: the only thing that both wings share beside model."""
