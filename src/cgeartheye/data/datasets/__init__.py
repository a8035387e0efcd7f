"""Data sets as PyTorch reads them, one file a task."""
