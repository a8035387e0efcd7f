"""Functions that the command line, the API and a server call."""
