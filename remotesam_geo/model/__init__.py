"""The network: its configuration, weights, processor and predictor."""
