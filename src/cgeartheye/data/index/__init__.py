"""Which files a data set consists of, by layout and by published name."""
