"""Pages of HTML with charts and pictures, one file a task."""
