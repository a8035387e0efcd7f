"""Tasks: a backbone, a decoder, a loss, and metrics."""
