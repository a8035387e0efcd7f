"""From maps and mosaics to a pre-training set."""
