"""Rasters that hold positions in a palette, as the colours that they mean."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rasterio.windows import Window

from .info import Raster
from .nesting import Array, Mask, equal

COLOURS = ("red", "green", "blue")


class Expanded:
    """A raster of palette positions, read as red, green and blue.

    A pixel is valid where its position is in the palette, its entry is not transparent, it is not the raster's nodata,
    and neither mask nor alpha band hides it.

    Args:
        raster: Its first band holds positions.
        nodata: Position that means no data; None for none.
    """

    def __init__(self, raster: Raster, nodata: float | None) -> None:
        self._raster, self._nodata = raster, nodata
        own = raster.info
        self._alpha = own.colors.index("alpha") + 1 if "alpha" in own.colors else None
        self._table = np.array([*own.palette, (0, 0, 0, 0)], np.uint8)  # the last: beyond the palette
        said = own.nodata[0]
        if said is not None and said != nodata and 0 <= said < len(own.palette):
            self._table[int(said), 3] = 255  # GDAL hides the file's nodata; the user says otherwise
        self.info = replace(
            own,
            dtypes=("uint8",) * 3,
            nodata=(None,) * 3,
            colors=COLOURS,
            descriptions=("",) * 3,
            scales=(1.0,) * 3,
            offsets=(0.0,) * 3,
            has_mask=True,
            palette=(),
        )

    @property
    def changed(self) -> bool:
        """As `Raster.changed`."""
        return self._raster.changed

    def read(
        self,
        level: int,
        window: Window,
        bands: Sequence[int],
        deadline: float,
        scene: Window | None = None,
    ) -> tuple[Array, Mask | None]:
        """As `Raster.read`."""
        wanted = (1,) if self._alpha is None else (1, self._alpha)
        planes, mask = self._raster.read(level, window, wanted, deadline, scene)
        last = len(self._table) - 1
        places = np.where((planes[0] >= 0) & (planes[0] < last), planes[0], last).astype(np.intp)
        colours = self._table[places]  # h x w x 4
        valid = (colours[..., 3] > 0) & ~equal(planes[0], self._nodata)
        if mask is not None:
            valid &= mask
        if self._alpha is not None:
            valid &= planes[1] > 0
        return np.moveaxis(colours, -1, 0)[[band - 1 for band in bands]], valid

    def forget(self) -> None:
        """As `Raster.forget`."""
        self._raster.forget()
