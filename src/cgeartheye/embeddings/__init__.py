"""Embeddings of scenes: where they are kept, search, labels with few clicks, and change."""
