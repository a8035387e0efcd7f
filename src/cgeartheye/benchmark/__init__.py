"""Tables of backbones, data sets, protocols and seeds: run cell by cell, and written out."""
