"""The Python API: what `import cgeartheye` offers, a file for each concern."""
