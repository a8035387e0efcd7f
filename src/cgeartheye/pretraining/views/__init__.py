"""What student and teacher see of an image."""
