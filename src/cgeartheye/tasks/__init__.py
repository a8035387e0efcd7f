"""What is learned: a backbone, a decoder, a loss, and what is measured."""
