"""Which places are sampled, by region, land cover and elevation."""
