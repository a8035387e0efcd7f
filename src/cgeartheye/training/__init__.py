"""The one loop, its state, and everything that feeds it."""
