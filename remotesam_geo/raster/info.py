"""What a raster says of itself, and what an opened one can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol

from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.windows import Window

from remotesam_geo.net.redact import redact
from remotesam_geo.net.trust import DamagedError

from .nesting import Array, Mask

LEAST_FACTOR = 1.25  # times that an overview must be coarser than the full image


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """What a raster says of itself.

    Args:
        href: Where it is, redacted.
        driver: GDAL's name of the format.
        shape: Rows and columns.
        crs: Its coordinate reference system as WKT, or None.
        transform: Pixel to CRS, or None where there is none.
        dtypes: NumPy type names, one a band.
        nodata: Nodata values, one a band.
        colors: Colour interpretation, one a band ("red", "alpha", "undefined" ...).
        descriptions: Names of the bands, "" where there is none.
        scales: Scale, one a band.
        offsets: Offset, one a band.
        levels: Rows and columns of each resolution, the full one first.
        block: Rows and columns of a block.
        has_mask: Whether it has a mask of its own.
        gcps: Ground control points as (row, col, x, y, z).
        gcps_crs: The CRS of the ground control points as WKT.
        has_rpcs: Whether it has rational polynomial coefficients.
        tags: Its own metadata.
        palette: Red, green, blue and alpha of each number, where the first band holds positions in a palette.
        subdatasets: Names of further rasters that the file holds.
        bits: Bits of a number, where fewer are used than the type has.
    """

    href: str
    driver: str
    shape: tuple[int, int]
    crs: str | None
    transform: Affine | None
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    colors: tuple[str, ...]
    descriptions: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    levels: tuple[tuple[int, int], ...]
    block: tuple[int, int]
    has_mask: bool
    gcps: tuple[tuple[float, float, float, float, float], ...] = ()
    gcps_crs: str | None = None
    has_rpcs: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    palette: tuple[tuple[int, int, int, int], ...] = ()
    subdatasets: tuple[str, ...] = ()
    bits: int | None = None

    @property
    def geobox(self) -> GeoBox | None:
        """Its grid, where it has a CRS and a transform."""
        if self.crs is None or self.transform is None:
            return None
        return GeoBox(self.shape, self.transform, self.crs)

    @property
    def plain_colors(self) -> bool:
        """Whether its bands are red, green and blue (and a fourth) though it does not say so.

        So are three or four 8-bit bands. More of them, or bands of other colours (CMYK, hue), are not taken for it.
        """
        unnamed = set(self.colors) <= {"gray", "undefined", "alpha"}
        return unnamed and len(self.dtypes) in (3, 4) and set(self.dtypes) == {"uint8"}

    @property
    def white_is_nodata(self) -> bool:
        """Whether it calls 255 no data though it holds 8-bit colours, in which 255 is white.

        Many such files do by mistake, and it would pierce every white roof.
        """
        colours = {"red", "green", "blue"} <= set(self.colors) or self.plain_colors
        return colours and set(self.dtypes) == {"uint8"} and set(self.nodata) == {255.0}

    @property
    def overviews(self) -> tuple[int, ...]:
        """How many times coarser each overview is."""
        return tuple(round(self.shape[1] / width) for _, width in self.levels[1:])


class Raster(Protocol):
    """A raster whose header was read and found in order."""

    info: RasterInfo

    @property
    def changed(self) -> bool:
        """Whether the file is known to be another one now."""
        ...

    def read(
        self,
        level: int,
        window: Window,
        bands: Sequence[int],
        deadline: float,
        scene: Window | None = None,
    ) -> tuple[Array, Mask | None]:
        """Pixels of a window.

        Args:
            level: Position in `info.levels`.
            window: Pixels of that level, inside it.
            bands: Numbers of the bands, from 1.
            deadline: When `time.monotonic()` says that this read is over.
            scene: The part of that level that the whole scene takes, None where it is not known.

        Returns:
            B x h x w in the file's own type, and its mask (h x w, true where valid) if it has one.
        """
        ...

    def forget(self) -> None:
        """Drop every byte that is kept of a remote file."""
        ...


def _has_area(place: Affine, shape: tuple[int, int]) -> bool:
    """Whether neighbouring pixels lie apart, also at the corners, in double precision."""
    rows, columns = shape
    corners = [place * (column, row) for column in (0, columns) for row in (0, rows)]
    return (
        all(isfinite(number) for corner in corners for number in corner)
        and all((x + dx, y + dy) != (x, y) for x, y in corners for dx, dy in ((place.a, place.d), (place.b, place.e)))
        and bool(place.determinant)
    )


def info_of(
    file: DatasetReader,
    *,
    href: str,
    shape: tuple[int, int],
    levels: tuple[tuple[int, int], ...],
    block: tuple[int, int],
    has_mask: bool,
) -> RasterInfo:
    """What an open dataset says, and what is known of it otherwise.

    Raises:
        DamagedError: Its georeference is nonsense.
    """
    points, points_crs = file.gcps
    placed = not points and not file.transform.is_identity
    place = tuple(file.transform)[:6]
    if placed and not _has_area(file.transform, file.shape):
        raise DamagedError(
            f"its georeference {place} has pixels without area: write the right one (gdal_edit.py -a_ullr)"
        )
    colors = tuple(color.name for color in file.colorinterp)
    bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    return RasterInfo(
        href=redact(href),
        driver=file.driver,
        crs=file.crs.to_wkt() if file.crs else None,
        transform=file.transform if placed else None,
        dtypes=tuple(file.dtypes),
        nodata=tuple(file.nodatavals),
        colors=colors,
        descriptions=tuple(name or "" for name in file.descriptions),
        scales=tuple(file.scales),
        offsets=tuple(file.offsets),
        gcps=tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points),
        gcps_crs=points_crs.to_wkt() if points_crs else None,
        has_rpcs=file.rpcs is not None,
        tags=file.tags(),
        palette=_palette_of_raster_info(file) if colors[0] == "palette" else (),
        subdatasets=tuple(file.subdatasets),
        bits=int(bits) if bits is not None and bits.isdecimal() else None,
        shape=shape,
        levels=levels,
        block=block,
        has_mask=has_mask,
    )


def _palette_of_raster_info(file: DatasetReader) -> tuple[tuple[int, int, int, int], ...]:
    try:
        entries = file.colormap(1)
    except ValueError:  # it says palette, and has none
        return ()
    clear = (0, 0, 0, 0)
    return tuple(entries.get(number, clear) for number in range(max(entries, default=-1) + 1))


def usable_levels(shapes: Sequence[tuple[int, int]]) -> list[int]:
    """Positions of the levels that can stand for the first, the full image: it, then from fine to coarse.

    An overview must be clearly smaller and show the same extent: a copy in full size, or a thumbnail of another
    aspect, is not one.

    Args:
        shapes: Rows and columns of each level, in the order of the file.

    Examples:
        >>> usable_levels([(100, 200), (100, 200), (25, 50), (50, 100), (64, 64)])
        [0, 3, 2]
    """
    full = shapes[0]
    long = int(full[1] > full[0])
    kept: dict[tuple[int, int], int] = {}
    for position, shape in enumerate(shapes[1:], start=1):
        factor = full[long] / max(1, shape[long])
        # The true factor is known to a pixel of the overview only.
        slack = 1 + full[1 - long] / full[long] + 1e-9
        expected = full[1 - long] / factor
        if min(shape) > 0 and factor >= LEAST_FACTOR and abs(shape[1 - long] - expected) <= slack:
            kept.setdefault(shape, position)
    return [0, *(kept[shape] for shape in sorted(kept, reverse=True))]
