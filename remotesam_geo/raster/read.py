"""Some bands of one opened raster onto a target grid: which level, which pixels, which are valid."""

import functools
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError, ProjError
from rasterio.windows import Window

from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning
from remotesam_geo.net.trust import RefusedError

from . import nesting as px
from .info import Raster, RasterInfo
from .nesting import Array, Mask
from .palette import Expanded
from .warp import Footprint, footprint, warp
from .warp import scale as scale_of

# An overview may be this much coarser than the target: so that the scale of a warp, which varies a
# little over a scene, does not choose one overview here and another there.
LEVEL_TOLERANCE = 1.05
WHOLE = 1e-3  # below a whole number by so little, odc-loader takes a scale for it
KERNEL, SPARE = (
    4,
    16,
)  # pixels around a target that GDAL may want: so many times its own pixels, and more
METHODS = ("auto", "mode", "nearest")
MOST_AT_ONCE = 1 << 26  # values of a source in work at a time
FINEST = 8  # places a pixel along each axis that vote for its class
ALPHA_SAMPLE = 1 << 20  # pixels by which a band that is called alpha is judged
NEARLY_FULL = 0.98  # share of the largest alpha that still counts as opaque
MOSTLY_FULL, MOSTLY_BLANK = 0.5, 0.99  # shares of pixels by which it is taken as transparency
FEW_HIDDEN = 0.01  # share of pixels of 0 up to which they tell nothing


@dataclass(frozen=True, kw_only=True)
class AssetBands:
    """Bands of one asset that are read together: `RasterBandMetadata.driver_data`.

    Args:
        indexes: Bands in the file, from 1, in the order wanted.
        valid: Append a last plane of 1 (valid) and 0.
        alpha: Whether the band that the file calls alpha is one; None: judged by its values, once
            a file (near infrared is often called alpha by mistake).
        nodata: Value that means no data where all the bands wanted have it; "file": what the file
            says, but for 255 in 8-bit colours; None: no value does.
        palette: Read positions in a palette as red, green and blue: bands 1 to 3.
    """

    indexes: tuple[int, ...]
    valid: bool = True
    alpha: bool | None = None
    nodata: float | Literal["file"] | None = "file"
    palette: bool = False


# Whether the alpha of an opened raster is one.
_JUDGED: WeakKeyDictionary[Raster, bool] = WeakKeyDictionary()


class Reading:
    """One raster while some bands of it are read onto one target."""

    def __init__(
        self,
        raster: Raster,
        grid: GeoBox,
        bands: AssetBands,
        scene: GeoBox | None,
        until: float,
        *,
        overviews: bool | None = None,
    ) -> None:
        if bands.palette:
            own = raster.info.nodata[0]
            raster = Expanded(raster, own if bands.nodata == "file" else bands.nodata)
        self.raster, self.grid, self.bands, self.until = raster, grid, bands, until
        self.scene = scene
        self.overviews = overviews  # None: by our own rule; True: by odc-loader's; False: none
        info = raster.info
        if not bands.indexes or not all(1 <= i <= len(info.dtypes) for i in bands.indexes):
            raise ReadError(f"it has {len(info.dtypes)} bands, but bands {bands.indexes} are wanted")
        self.dtype = np.result_type(*(info.dtypes[i - 1] for i in bands.indexes))
        self.alpha = self._alpha_band()

    def onto(self, target: GeoBox, resampling: str) -> tuple[tuple[slice, slice], Array, Mask]:
        """Rows and columns of the target that are covered, their pixels, and which are valid."""
        if resampling not in METHODS:
            raise InputError(f"resampling {resampling!r} is none of {', '.join(METHODS)}")
        nest = self.nesting(self.grid, target)
        if nest is not None:
            covered = nest.covered(self.grid.shape.yx, target.shape.yx)
            if covered is None:
                return self._nothing()
            roi = slice(*covered[0]), slice(*covered[1])
            target = target[roi]
            scale = float(min(abs(k) for k in nest.size))
        else:
            if footprint(self.grid, target) is None:
                return self._nothing()
            roi = slice(0, target.shape[0]), slice(0, target.shape[1])
            scale = scale_of(self.grid, _pixel_size_of(target), target.crs)
        level = self._level(scale)
        planes, valid = self._resampled(level, self._at(level), target, resampling)
        if planes.dtype.kind == "f":  # sums of huge values may overflow
            valid = valid & np.isfinite(planes).all(axis=0)
        return roi, planes, valid

    def _nothing(self) -> tuple[tuple[slice, slice], Array, Mask]:
        none = slice(0, 0), slice(0, 0)
        empty = np.zeros((len(self.bands.indexes), 0, 0), self.dtype)
        return none, empty, np.zeros((0, 0), dtype=bool)

    @staticmethod
    def nesting(grid: GeoBox, target: GeoBox) -> px.Nesting | None:
        """How a target's pixels lie on those of a grid; None where only a warp relates them."""
        if grid.crs != target.crs:
            return None
        return px.nesting(~grid.transform * target.transform, grid.shape.yx)

    def _level(self, scale: float) -> int:
        """The coarsest level that is fine enough."""
        full, best = self.grid.shape, 0
        if self.overviews is False:
            return best
        most = max(scale, 1.0) * LEVEL_TOLERANCE
        if self.overviews:
            most = math.floor(max(scale, 1.0) + WHOLE) + 0.5
        for number, shape in enumerate(self.raster.info.levels):
            if max(full[0] / shape[0], full[1] / shape[1]) <= most:
                best = number
        return best

    def around(self, target: GeoBox) -> tuple[Array, Mask, GeoBox] | list[GeoBox]:
        """The pixels that an interpolation onto a target needs, which are valid, and their grid.

        Where they are too many at once: two halves of the target.
        """
        scale = scale_of(self.grid, _pixel_size_of(target), target.crs)
        level = self._level(scale)
        grid = self._at(level)
        found = footprint(grid, target)
        if found is None:  # it just touches the full level, and not this one
            found = Footprint(rows=(0, 1), cols=(0, 1))
        reach = KERNEL * math.ceil(max(scale_of(grid, _pixel_size_of(target), target.crs), 1.0)) + SPARE
        rows, cols = (
            (max(low - reach, 0), min(high + reach, length))
            for (low, high), length in zip((found.rows, found.cols), grid.shape, strict=True)
        )
        if (rows[1] - rows[0]) * (cols[1] - cols[0]) * len(self.bands.indexes) > MOST_AT_ONCE:
            return self._halves(target)
        planes, valid = self._window(level, rows, cols)
        return planes, valid, grid[slice(*rows), slice(*cols)]

    def _at(self, level: int) -> GeoBox:
        """The grid of a level."""
        (rows, cols), (height, width) = self.grid.shape, self.raster.info.levels[level]
        shrink = self.grid.transform.scale(cols / width, rows / height)
        return GeoBox((height, width), self.grid.transform * shrink, self.grid.crs)

    def _resampled(self, level: int, grid: GeoBox, target: GeoBox, resampling: str) -> tuple[Array, Mask]:
        nest = self.nesting(grid, target)
        if nest is not None:
            rows, cols = nest.source(((0, target.shape[0]), (0, target.shape[1])))
        else:
            found = footprint(grid, target)
            if found is None:  # it just touches the full level, and not this one
                shape = target.shape.yx
                return np.zeros((len(self.bands.indexes), *shape), self.dtype), np.zeros(shape, bool)
            rows, cols = found.rows, found.cols
        if (rows[1] - rows[0]) * (cols[1] - cols[0]) * len(self.bands.indexes) > MOST_AT_ONCE:
            return self._in_parts(level, grid, target, resampling)
        if nest is not None:
            return self._nested(level, grid, (rows, cols), nest, resampling)
        return self._warped(level, grid, target, (rows, cols), resampling)

    def _in_parts(self, level: int, grid: GeoBox, target: GeoBox, resampling: str) -> tuple[Array, Mask]:
        """Half the target, then the other half: a pixel does not depend on what it is asked with."""
        halves = self._halves(target)
        parts = [self._resampled(level, grid, half, resampling) for half in halves]
        planes, valid = zip(*parts, strict=True)
        axis = int(target.shape[1] > target.shape[0])
        return np.concatenate(planes, axis=axis + 1), np.concatenate(valid, axis=axis)

    @staticmethod
    def _halves(target: GeoBox) -> list[GeoBox]:
        axis = int(target.shape[1] > target.shape[0])
        middle = target.shape[axis] // 2
        if middle == 0:
            raise RefusedError(
                f"one pixel of the target needs more than {MOST_AT_ONCE:,} values of the raster, which "
                "has no overview that coarse: ask for a finer resolution, or add overviews (gdaladdo)"
            )
        if axis == 0:
            return [target[:middle], target[middle:]]
        return [target[:, :middle], target[:, middle:]]

    def _warped(
        self,
        level: int,
        grid: GeoBox,
        target: GeoBox,
        window: tuple[px.Span, px.Span],
        resampling: str,
    ) -> tuple[Array, Mask]:
        """Interpolate; where the target is coarser, average or take the majority."""
        scale = scale_of(grid, _pixel_size_of(target), target.crs)
        coarser = scale > LEVEL_TOLERANCE
        averaged = coarser and resampling == "auto"
        # An average: first over whole blocks of source pixels, then over places between them.
        block = tuple(min(int(scale), n) if averaged else 1 for n in grid.shape)
        rows, cols = (  # with a block on each side: places between blocks need both
            ((low // n - 1) * n, (-(-high // n) + 1) * n) for (low, high), n in zip(window, block, strict=True)
        )
        planes, valid = self._padded(level, grid.shape.yx, (rows, cols))
        if block != (1, 1):
            planes, valid = px.block_mean(planes, valid, (block[0], block[1]))
        move = Affine.translation(cols[0], rows[0]) * Affine.scale(block[1], block[0])
        part = GeoBox(valid.shape, grid.transform * move, grid.crs)
        if averaged:
            return px.block_mean(*warp(planes, valid, part, target, fine=2), (2, 2))
        if coarser and resampling == "mode":
            fine = min(math.ceil(scale), FINEST)
            places = warp(planes, valid, part, target, nearest=True, fine=fine)
            return px.block_mode(*places, (fine, fine))
        return warp(planes, valid, part, target, nearest=resampling != "auto")

    def _nested(
        self,
        level: int,
        grid: GeoBox,
        window: tuple[px.Span, px.Span],
        nest: px.Nesting,
        resampling: str,
    ) -> tuple[Array, Mask]:
        """Copy pixels, or reduce whole blocks of them to one."""
        planes, valid = self._padded(level, grid.shape.yx, window)
        y, x = (-1 if k < 0 else 1 for k in nest.size)
        planes, valid = planes[:, ::y, ::x], valid[::y, ::x]
        size = abs(nest.size[0]), abs(nest.size[1])
        if size == (1, 1):
            return planes, valid
        if resampling == "auto":
            return px.block_mean(planes, valid, size)
        if resampling == "mode":
            return px.block_mode(planes, valid, size)
        middle = np.s_[..., size[0] // 2 :: size[0], size[1] // 2 :: size[1]]
        return planes[middle], valid[middle]

    def _padded(self, level: int, shape: tuple[int, int], spans: tuple[px.Span, px.Span]) -> tuple[Array, Mask]:
        """Rows and columns that may reach beyond the raster; what is outside is not valid."""
        rows, cols = ((max(a, 0), min(b, n)) for (a, b), n in zip(spans, shape, strict=True))
        planes, valid = self._window(level, rows, cols)
        pad = [(i - a, b - j) for (a, b), (i, j) in zip(spans, (rows, cols), strict=True)]
        if any(map(any, pad)):
            planes, valid = np.pad(planes, [(0, 0), *pad]), np.pad(valid, pad)
        return planes, valid

    def _window(self, level: int, rows: px.Span, cols: px.Span) -> tuple[Array, Mask]:
        """Pixels of a level and which of them are valid."""
        wanted = self.bands.indexes
        extra = () if self.alpha is None else (self.alpha,)
        window = Window.from_slices(rows, cols)
        scene = None if self.scene is None else _scene_window(self._at(level), self.scene)
        planes, mask = self.raster.read(level, window, (*wanted, *extra), self.until, scene)
        alpha = planes[-1] if extra else None
        planes = planes[: len(wanted)]
        return planes, self._valid(planes, mask, alpha)

    def _valid(self, planes: Array, mask: Mask | None, alpha: Array | None) -> Mask:
        """By the file's mask, or else by nodata and alpha; NaN and infinity are never valid."""
        valid = np.ones(planes.shape[1:], dtype=bool) if mask is None else mask
        if mask is None and self.bands.nodata is not None:
            missing = np.ones_like(valid)
            for plane, index in zip(planes, self.bands.indexes, strict=True):
                missing &= px.equal(plane, self._nodata(index))
            valid &= ~missing
        if mask is None and alpha is not None:
            valid &= alpha > 0
        if planes.dtype.kind == "f":
            valid = valid & np.isfinite(planes).all(axis=0)
        return valid

    def _nodata(self, index: int) -> float | None:
        if self.bands.nodata != "file":
            return self.bands.nodata
        info = self.raster.info
        return None if info.white_is_nodata else info.nodata[index - 1]

    def _alpha_band(self) -> int | None:
        """The number of the band that says what is transparent, None where there is none."""
        colors = self.raster.info.colors
        if "alpha" not in colors or self.bands.alpha is False or self.raster.info.has_mask:
            return None
        number = colors.index("alpha") + 1
        if self.bands.alpha:
            return number
        if self.raster not in _JUDGED:
            _JUDGED[self.raster] = self._looks_like_alpha(number)
        return number if _JUDGED[self.raster] else None

    def _looks_like_alpha(self, number: int) -> bool:
        """Whether a band called alpha is transparency, or near infrared that is called so by mistake.

        It is transparency if most pixels that are not 0 have the largest value there is (whatever the type's own
        maximum: 1, 255, 65535), or if the colours are blank where it is 0. Judged on the coarsest level, so that every
        window of the file is judged alike.
        """
        levels = self.raster.info.levels
        rows, cols = levels[-1]
        down = min(rows, max(1, ALPHA_SAMPLE // cols))
        middle = (rows - down) // 2
        window = Window.from_slices((middle, middle + down), (0, cols))
        bands = [number, *(i for i in range(1, len(self.raster.info.dtypes) + 1) if i != number)]
        planes, _ = self.raster.read(len(levels) - 1, window, bands[:4], self.until)
        alpha, colours = planes[0], planes[1:]
        shown = alpha[alpha > 0]
        if not shown.size or np.mean(shown >= NEARLY_FULL * float(shown.max())) >= MOSTLY_FULL:
            return True
        hidden = colours[:, ~(alpha > 0)]
        if hidden.shape[1] < FEW_HIDDEN * alpha.size:  # as in deep water
            return False
        if np.mean((hidden == hidden[:, :1]).all(axis=0)) >= MOSTLY_BLANK:
            return True
        warnings.warn(
            f"band {number} of {self.raster.info.href} is called alpha, but varies as near infrared does, and there "
            "are colours where it is 0: it is not taken as a mask. If it is one, store it as such: "
            f"gdal_translate -mask {number}",
            RemoteSAMWarning,
            stacklevel=2,
        )
        return False


def grid_of(info: RasterInfo, told: Any) -> GeoBox:
    """The raster's own grid, or what its item says where the raster says nothing."""
    if info.geobox is not None:
        return info.geobox
    if isinstance(told, GeoBox) and told.crs is not None:
        factors = told.shape[1] / info.shape[1], told.shape[0] / info.shape[0]
        return GeoBox(info.shape, told.transform * told.transform.scale(*factors), told.crs)
    if info.gcps or info.has_rpcs:
        raise ReadError(
            "it is placed only by ground control points or rational polynomials: orthorectify it first (gdalwarp)"
        )
    raise ReadError("neither the raster nor its item says where on the ground it lies")


def _pixel_size_of(target: GeoBox) -> Affine:
    """The pixel size of a grid, wherever it begins: alike for each of its parts."""
    a, b, _, d, e, _ = target.transform[:6]
    return Affine(a, b, 0.0, d, e, 0.0)


@functools.lru_cache(maxsize=256)
def _scene_window(grid: GeoBox, scene: GeoBox) -> Window | None:
    """The pixels of a source that a whole scene takes, None where that cannot be told."""
    try:
        found = footprint(grid, scene)
    except (ProjError, CRSError):
        return None
    return None if found is None else Window.from_slices(found.rows, found.cols)
