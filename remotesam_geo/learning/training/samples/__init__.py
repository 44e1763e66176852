"""What training reads: batches of images, expressions and masks."""
