"""Learning a backbone without labels: store, views, losses, student and teacher."""
