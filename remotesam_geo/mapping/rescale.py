"""Pixels brought to another grid, the same whatever part is wanted.

Going coarser averages: pixels are first averaged in whole groups anchored to the raster, then interpolated between
the groups' centres. All arithmetic is in integers and every coordinate comes from a pixel's place in the whole plan,
so that any box of the result equals that part of the whole. A pixel that falls on a pixel is not changed.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from remotesam_geo.geo.box import Box
from remotesam_geo.geo.crs import crs_of, near_meridian, transformer
from remotesam_geo.geo.ground import pixel_size

__all__ = ["Resampling"]

ONE = 256
"""Parts of a pixel in which weights are counted."""

I64 = NDArray[np.int64]
Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How pixels of one grid come from another.

    Args:
        source: The grid of the pixels there are.
        target: The grid of those wanted.
    """

    source: GeoBox
    target: GeoBox

    @property
    def group(self) -> int:
        """Pixels along the side of the groups that are averaged first."""
        return max(1, math.floor(pixel_size(self.target).metres / pixel_size(self.source).metres + 1e-6))

    def needs(self, box: Box) -> Box | None:
        """The pixels of the source that a box of the target is made of; None where there are none."""
        down, across = self._places(box)
        group, (height, width) = self.group, self.source.shape.yx
        finite = np.isfinite(down) & np.isfinite(across)
        if not finite.any():
            return None
        low = np.floor([down[finite].min(), across[finite].min()]).astype(int) - 1
        high = np.floor([down[finite].max(), across[finite].max()]).astype(int) + 2
        (top, left), (bottom, right) = low * group, high * group
        return Box(top=top, left=left, bottom=bottom, right=right).common(
            Box(top=0, left=0, bottom=height, right=width)
        )

    def apply(self, rgb: NDArray[np.uint8], valid: NDArray[np.bool_], region: Box, box: Box) -> Pixels:
        """The pixels of a box of the target.

        Args:
            rgb: Pixels of the source (h x w x 3).
            valid: Which of them are data (h x w).
            region: Where they lie: what `needs` said, or more.
            box: Which pixels of the target are wanted.

        Returns:
            Their colours and whether they are valid: at least half of what they are made of is.
        """
        level, weight, origin = self._grouped(rgb, valid, region)
        down, across = self._places(box)
        known = np.isfinite(down) & np.isfinite(across)
        y, x = (np.rint(np.where(known, place, 0) * ONE).astype(np.int64) for place in (down, across))
        total = np.zeros((*box.shape, 3), np.int64)
        share = np.zeros(box.shape, np.int64)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row, col = (y >> 8) + dy - origin[0], (x >> 8) + dx - origin[1]
            part = ((y & 255) if dy else ONE - (y & 255)) * ((x & 255) if dx else ONE - (x & 255))
            inside = known & (row >= 0) & (row < weight.shape[0]) & (col >= 0) & (col < weight.shape[1])
            row, col = np.where(inside, row, 0), np.where(inside, col, 0)
            part = np.where(inside, part, 0) * weight[row, col]
            total += part[..., None] * level[row, col]
            share += part
        answered = 2 * share >= ONE**3
        whole = np.maximum(share, 1)[..., None] * ONE  # levels are counted in parts as well
        colours = ((2 * total + whole) // (2 * whole)).astype(np.uint8)
        return np.where(answered[..., None], colours, np.uint8(0)), answered

    def _grouped(
        self, rgb: NDArray[np.uint8], valid: NDArray[np.bool_], region: Box
    ) -> tuple[I64, I64, tuple[int, int]]:
        """Mean level and share of valid pixels of each group, in parts, and the first group's place."""
        group = self.group
        top, left = region.top // group, region.left // group
        before = region.top - top * group, region.left - left * group
        after = tuple(-(start + length) % group for start, length in zip(before, region.shape, strict=True))
        around = tuple(zip(before, after, strict=True))
        known = np.pad(valid, around)
        levels = np.pad(np.where(valid[..., None], rgb, 0).astype(np.int64), (*around, (0, 0)))
        rows, cols = known.shape[0] // group, known.shape[1] // group
        count = known.reshape(rows, group, cols, group).sum(axis=(1, 3), dtype=np.int64)
        total = levels.reshape(rows, group, cols, group, 3).sum(axis=(1, 3))
        share = np.maximum(count, 1)[..., None]
        return (2 * ONE * total + share) // (2 * share), count * ONE // group**2, (top, left)

    def _places(self, box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row and column among the source's groups of each pixel's centre, counted from the groups' centres."""
        col, row = np.meshgrid(np.arange(box.left, box.right) + 0.5, np.arange(box.top, box.bottom) + 0.5)
        to, back = self.target.affine, ~self.source.affine
        x, y = to.a * col + to.b * row + to.c, to.d * col + to.e * row + to.f
        if self.source.crs != self.target.crs:
            x, y = transformer(crs_of(self.target), crs_of(self.source)).transform(x, y)
            if self.source.crs is not None and self.source.crs.geographic:
                with np.errstate(invalid="ignore"):
                    x = near_meridian(x, (self.source.affine * (self.source.shape.x / 2, 0))[0])
        with np.errstate(invalid="ignore"):  # places that the source's CRS cannot hold are infinite
            across, down = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
        return down / self.group - 0.5, across / self.group - 0.5
