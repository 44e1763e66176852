"""Procedural scenes with known truth, training and evaluation."""
