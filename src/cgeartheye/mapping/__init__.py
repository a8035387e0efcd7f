"""A trained model over a scene of any size."""
