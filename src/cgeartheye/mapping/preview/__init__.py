"""A page that shows a map in the browser."""
