"""Published data sets: where they are, what belongs to them, and how a download becomes one."""
