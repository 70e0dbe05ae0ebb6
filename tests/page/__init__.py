"""The page, rendered and in a browser."""
