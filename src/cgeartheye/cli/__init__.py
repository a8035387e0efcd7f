"""The command line."""

from cgeartheye.cli.main import main

__all__ = ["main"]
