"""A store of encoded images: packed, read, held in memory."""
