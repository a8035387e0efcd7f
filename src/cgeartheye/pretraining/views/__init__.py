"""Views of an image for student and teacher."""
