"""The demo: a drawn world, models of all tasks, and their maps."""
