"""What energy costs and emits: price, carbon intensity and PUE as series of factors."""
