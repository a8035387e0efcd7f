"""Average precision and what goes wrong with boxes."""
