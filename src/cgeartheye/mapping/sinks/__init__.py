"""Where finished rows of windows go."""
