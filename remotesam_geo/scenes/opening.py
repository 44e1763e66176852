"""One raster file as a scene, without STAC: GeoTIFF, COG, VRT, JPEG 2000, or a picture with a world file."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio.warp
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint

from remotesam_geo.errors import InputError, ReadError, RemoteSAMWarning, path_of
from remotesam_geo.geo import grids
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.raster.gcps import Points
from remotesam_geo.raster.odc_driver import inspect
from remotesam_geo.raster.session import RasterInfo
from remotesam_geo.stac.bands import RGB, band_names

from .arguments import check_names, check_path, check_reading, crs_of_user
from .loading import CHUNK, chunk_of
from .read_block import PIXELS
from .recipe import FileBands, Layer, Recipe, Variable, as_fill

if TYPE_CHECKING:
    import xarray as xr


# URLs, virtual paths, and names of rasters inside a file: netcdf:FILE:VARIABLE.
_NO_FILE = re.compile(r"/vsi|\w+://|[A-Za-z]\w+:.")


def open_raster(
    path: str | PurePath,
    *,
    bands: Sequence[str | int] | Mapping[str, int] | None = None,
    crs: Any = None,
    chunks: int | Mapping[str, int] = CHUNK,
    nodata: float | Literal["file"] | None = "file",
    rescale: bool = False,
    max_pixels: int | None = None,
    policy: ReadPolicy | None = None,
) -> "xr.Dataset":
    """Open a raster file as a lazy scene; only its header is read.

    A file that is flipped is turned, a rotated one or one with ground control points is warped onto a
    north-up grid, and that is said. One without any georeference is a picture: its scene has no CRS,
    and pixels for coordinates.

    Args:
        path: A path or URL; a VRT too, as you name it yourself; or GDAL's name of a raster inside a file,
            "netcdf:FILE:VARIABLE" for example.
        bands: Names or numbers (from 1) of the bands wanted, or a mapping of names to numbers. None
            for red, green and blue where the file has them, else for all its bands.
        crs: The CRS of a file that has a georeference but does not name its CRS.
        chunks: Rows and columns of a chunk, or {"y": rows, "x": columns}; -1 for all.
        nodata: "file" believes the file; None: no value means no data; or the value that does.
        rescale: Whether to apply the file's own scale and offset, giving float32.
        max_pixels: Pixels a band that are allowed, where the guard against absurd sizes errs.
        policy: How patient and how trusting to read.

    Returns:
        A Dataset of dimensions y, x with the bands and `valid`. `Recipe.of(scene)` is its recipe.

    Raises:
        InputError: No such band, no CRS, a placement by rational polynomials.
        ReadError: There is no such file, or its header cannot be read.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("RGB", (6, 4)).save(file.name)
        ...     scene = open_raster(file.name)
        >>> dict(scene.sizes), scene.attrs["space"]
        ({'y': 4, 'x': 6}, 'pixel')
    """
    check_path(path)
    check_names(bands, numbers=True)
    check_reading(nodata=nodata, max_pixels=max_pixels, policy=policy, rescale=rescale, chunks=chunks)
    if crs is not None:
        crs = crs_of_user(crs)
    href = str(path)
    if not (_NO_FILE.match(href) or path_of("path", href).exists()):
        raise ReadError(f"there is no file {str(Path(href).absolute())!r}")
    info = inspect(href, policy=policy or ReadPolicy())
    _check_placement(info)
    palette = bool(info.palette) and (bands is None or set(_opened_band_values(bands)) <= set(RGB))
    if palette:
        info = replace(
            info, dtypes=("uint8",) * 3, colors=RGB, descriptions=("",) * 3, nodata=(None,) * 3,
            scales=(1.0,) * 3, offsets=(0.0,) * 3, bits=None,
        )  # fmt: skip
    chosen = _choose_bands(info, bands)
    notes: list[str] = []
    if info.subdatasets:
        listed = ", ".join(info.subdatasets[1:4])
        notes.append(
            f"{info.href} holds {len(info.subdatasets)} rasters; the first is opened. Open others by their names, "
            f"for example {listed}"
        )
    if info.bits is not None and info.bits < 8 and not rescale:
        notes.append(
            f"{info.href} holds numbers of {info.bits} bits, from 0 to {2**info.bits - 1}, which are nearly black in a "
            f"picture: give stretch=(0, {2**info.bits - 1}) where it is rendered or asked"
        )
    source_grid, points, geobox = _placement_of_file(info, crs, notes)
    if nodata == "file" and info.white_is_nodata:
        nodata = None
        notes.append(
            f"{info.href} calls 255 no data, but has 8-bit colours, in which 255 is white; it is read "
            "as white. If it does mean no data here, say nodata=255."
        )
    variables = _variables_of_file(info, chosen, nodata, rescale=rescale)
    source = FileBands(
        href=href,
        indexes=tuple(chosen.values()),
        variables=tuple(range(len(chosen))),
        scales=tuple(info.scales[i - 1] for i in chosen.values()) if rescale else (),
        offsets=tuple(info.offsets[i - 1] for i in chosen.values()) if rescale else (),
        nodata=nodata,
        grid=source_grid,
        points=points,
        palette=palette,
    )
    known = geobox.crs
    if known is not None and not (known.geographic or known.projected):
        raise InputError(
            f"the CRS of {href}, {str(known)[:60]!r}, is a local or geocentric one, and a scene needs a geographic or "
            "projected one: write the right one into the file, gdal_edit.py -a_srs EPSG:... FILE"
        )
    box = geobox.boundingbox
    layer = Layer(
        number=0,
        item=PurePath(href.split("?", maxsplit=1)[0]).stem,
        bounds=(box.left, min(box.bottom, box.top), box.right, max(box.bottom, box.top)),
        sources=(source,),
    )
    chunk = chunk_of(chunks, geobox)
    grids.check_size(geobox, 1, chunk, most=max_pixels)
    for text in notes:
        warnings.warn(text, RemoteSAMWarning, stacklevel=2)
    return Recipe(
        geobox=geobox,
        layers=(layer,),
        groups=((0,),),
        variables=variables,
        physical=rescale,
        chunk=chunk,
        attrs={"space": "pixel"} if geobox.crs is None else {},
    ).open(policy=policy)


def _check_placement(info: RasterInfo) -> None:
    if info.has_rpcs and info.transform is None and not info.gcps:
        raise InputError(
            f"{info.href} is placed by rational polynomials (RPC), which need the height of the ground: "
            "orthorectify it first (gdalwarp -rpc -to RPC_DEM=dem.tif -t_srs EPSG:...)"
        )


def _opened_band_values(bands: Sequence[str | int] | Mapping[str, int]) -> Iterable[str | int]:
    return bands.values() if isinstance(bands, Mapping) else bands


def _choose_bands(info: RasterInfo, bands: Sequence[str | int] | Mapping[str, int] | None) -> dict[str, int]:
    """Variable names to numbers of bands."""
    names = band_names(info)
    if bands is None:
        if set(RGB) <= set(names):
            return {name: names.index(name) + 1 for name in RGB}
        return {name: i for i, name in enumerate(names, start=1) if name != "alpha"}
    chosen: dict[str, int] = {}
    entries = bands.items() if isinstance(bands, Mapping) else [(band, band) for band in bands]
    for name, band in entries:
        index = names.index(band) + 1 if band in names else band
        if not isinstance(index, int) or not 1 <= index <= len(names):
            there = ", ".join(f"{i}: {name}" for i, name in enumerate(names, start=1))
            raise InputError(f"{info.href} has no band {band!r}. There is: {there}.")
        chosen[names[index - 1] if isinstance(name, int) else name] = index
    if not chosen:
        raise InputError("bands= is empty: name at least one band")
    return chosen


def _placement_of_file(info: RasterInfo, crs: Any, notes: list[str]) -> tuple[GeoBox | None, Points | None, GeoBox]:
    """The file's grid where it has to be told, its control points, and the grid of the scene."""
    given = None if crs is None else CRS(crs)
    if info.gcps:
        return _opened_by_points(info, given if crs is not None else None, notes)
    if info.transform is None:
        if crs is not None:
            raise InputError(
                f"{info.href} has no georeference that crs={str(crs)!r} could belong to: a world file beside "
                "it, or gdal_translate -a_ullr, gives it one"
            )
        if info.driver == "netCDF":  # GDAL turns the rows of such a file upside down
            raise InputError(
                f"GDAL finds no georeference in {info.href}: open it with xarray.open_dataset, give it a CRS with "
                "scene.rio.write_crs('EPSG:...'), and pass the scene on"
            )
        pixels = GeoBox(info.shape, Affine.identity(), PIXELS)
        return pixels, None, GeoBox(info.shape, Affine.identity(), None)
    if info.crs is None and crs is None:
        raise InputError(
            f"{info.href} has a georeference but no CRS: say which it is, "
            "open_raster(path, crs='EPSG:32633') for example"
        )
    own = info.geobox
    if own is not None and crs is not None and own.crs != given:
        raise InputError(f"{info.href} has a CRS of its own, {own.crs}: leave crs={crs!r} out")
    if own is None:
        own = GeoBox(info.shape, info.transform, given)
    known = grids.crs_of(own)
    if not (known.projected or known.geographic):
        raise InputError(
            f"{info.href} has the CRS {known.proj.name!r}, which is neither projected nor geographic, so its place on "
            "Earth is unknown: give it another one (gdal_edit.py -a_srs EPSG:...)"
        )
    own = grids.tidied(own)
    if own.transform.b or own.transform.d:
        notes.append(f"{info.href} is rotated; it is warped onto a north-up grid")
    return (own if info.crs is None else None), None, grids.north_up(own)


def _opened_by_points(info: RasterInfo, crs: CRS | None, notes: list[str]) -> tuple[GeoBox, Points, GeoBox]:
    known = info.gcps_crs or (None if crs is None else crs.to_wkt())
    if known is None:
        raise InputError(f"{info.href} has ground control points but no CRS for them: say which it is with crs=")
    rows, columns, xs, ys, _ = zip(*info.gcps, strict=True)
    points = Points(rows=rows, columns=columns, xs=xs, ys=ys, crs=str(grids.short_crs(known)))
    controls = [GroundControlPoint(*point[:4], z=0.0) for point in info.gcps]
    transform, width, height = rasterio.warp.calculate_default_transform(
        points.crs, points.crs, info.shape[1], info.shape[0], gcps=controls
    )
    notes.append(f"{info.href} is placed by {len(controls)} ground control points; it is warped by them")
    pixels = GeoBox(info.shape, Affine.identity(), PIXELS)
    return pixels, points, GeoBox((height, width), transform, points.crs)


def _variables_of_file(
    info: RasterInfo,
    chosen: Mapping[str, int],
    nodata: float | str | None,
    *,
    rescale: bool,
) -> tuple[Variable, ...]:
    variables = []
    for name, index in chosen.items():
        dtype = np.result_type(*(info.dtypes[i - 1] for i in chosen.values()))
        scale, offset = info.scales[index - 1], info.offsets[index - 1]
        if rescale:
            variables.append(Variable(name=name, dtype="float32"))
            continue
        said = info.nodata[index - 1] if nodata == "file" else nodata
        fill = None if isinstance(said, str) else as_fill(said, dtype)
        scaled = {} if (scale, offset) == (1.0, 0.0) else {"scale_factor": scale, "add_offset": offset}
        variables.append(Variable(name=name, dtype=str(dtype), fill=fill, attrs=scaled))
    return tuple(variables)
