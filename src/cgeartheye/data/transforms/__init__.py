"""What is done to images, masks and boxes alike."""
