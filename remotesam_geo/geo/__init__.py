"""Grids, areas of interest, and true metres on the ground."""
