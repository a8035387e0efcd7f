"""What segmentation and change detection share."""
