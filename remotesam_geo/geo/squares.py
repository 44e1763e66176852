"""Views: square looks at a scene or a zone as a whole, resampled to what the network sees."""

from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

__all__ = ["square_round"]


def square_round(geobox: GeoBox, size: int, area: BaseGeometry | None = None) -> GeoBox:
    """The grid of a square view of all of a raster, or of an area in it.

    Args:
        geobox: The raster's grid, square on the ground.
        size: Pixels along the view's side.
        area: In pixels of the raster; by default all of it.

    Examples:
        >>> from odc.geo.geobox import GeoBox
        >>> box = GeoBox.from_bbox((0, 0, 400, 200), crs="EPSG:32633", resolution=1)
        >>> square_round(box, 100).boundingbox
        BoundingBox(left=0.0, bottom=-100.0, right=400.0, top=300.0, crs=CRS('EPSG:32633'))
    """
    height, width = geobox.shape.yx
    left, top, right, bottom = (0, 0, width, height) if area is None else area.bounds
    side = max(right - left, bottom - top)
    corner = Affine.translation((left + right - side) / 2, (top + bottom - side) / 2)
    return GeoBox((size, size), geobox.affine * corner * Affine.scale(side / size), geobox.crs)
