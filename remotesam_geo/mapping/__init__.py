"""Windows over a raster, their answers joined to one map, and the map turned into features."""
