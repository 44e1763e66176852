"""Networks that turn images and expressions into probabilities."""
