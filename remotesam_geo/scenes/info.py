"""What a raster says of itself, and what an opened one can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .pixels import Array, Mask
from .redaction import redact


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

    @property
    def geobox(self) -> GeoBox | None:
        """Its grid, where it has a CRS and a transform."""
        if self.crs is None or self.transform is None:
            return None
        return GeoBox(self.shape, self.transform, self.crs)

    @property
    def white_is_nodata(self) -> bool:
        """Whether it calls 255 no data though it holds 8-bit colours, in which 255 is white.

        Many such files do by mistake, and it would pierce every white roof.
        """
        return (
            len(self.dtypes) >= 3 and set(self.dtypes) == {"uint8"} and set(self.nodata) == {255.0}
        )

    @property
    def overviews(self) -> tuple[int, ...]:
        """How many times coarser each overview is."""
        return tuple(round(self.shape[1] / width) for _, width in self.levels[1:])


class Raster(Protocol):
    """A raster whose header was read and found in order."""

    info: RasterInfo

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


def info_of(
    file: DatasetReader,
    *,
    href: str,
    shape: tuple[int, int],
    levels: tuple[tuple[int, int], ...],
    block: tuple[int, int],
    has_mask: bool,
) -> RasterInfo:
    """What an open dataset says, and what is known of it otherwise."""
    points, points_crs = file.gcps
    placed = not points and not file.transform.is_identity
    return RasterInfo(
        href=redact(href),
        driver=file.driver,
        crs=file.crs.to_wkt() if file.crs else None,
        transform=file.transform if placed else None,
        dtypes=tuple(file.dtypes),
        nodata=tuple(file.nodatavals),
        colors=tuple(color.name for color in file.colorinterp),
        descriptions=tuple(name or "" for name in file.descriptions),
        scales=tuple(file.scales),
        offsets=tuple(file.offsets),
        gcps=tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points),
        gcps_crs=points_crs.to_wkt() if points_crs else None,
        has_rpcs=file.rpcs is not None,
        tags=file.tags(),
        shape=shape,
        levels=levels,
        block=block,
        has_mask=has_mask,
    )
