"""Server: application models over HTTP, as OGC API - Processes, tiles and a page."""
