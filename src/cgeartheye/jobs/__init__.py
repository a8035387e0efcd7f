"""Jobs: maps that are asked for, kept in a table, and made by worker processes."""
