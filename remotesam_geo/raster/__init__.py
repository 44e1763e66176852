"""One raster file: its layout, its pixels, and its pixels on another grid."""
