"""Results for each zone: sums, objects and tables."""
