"""The books: what the deliveries say, in whole microjoules, and the questions asked of them."""
