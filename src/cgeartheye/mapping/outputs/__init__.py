"""The files of a finished map."""
