"""The page: what the endpoints answer, for people, rendered here and readable without scripts."""
