"""Outlines of one block of one map as GeoParquet, with all that it takes to join them to their neighbours again.

A part opens anywhere as what was found in its block, cut at the block's border. Beside the columns it holds, in the
file's metadata, which component each pixel along its border belongs to: so whole features are made from parts alone.
"""

import base64
import io
import json
import zlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from remotesam_geo.errors import JobError
from remotesam_geo.tasks import Hulls, Table, upright

from .vectors import SIDES, Features, Outline, Pieces

__all__ = ["about", "pack", "unpack"]

I64 = NDArray[np.int64]

_KEY = b"remotesam_geo"
_COLUMNS = ("count", "total", "peak", "x0", "y0", "x1", "y1", "row", "col", "parent")


def pack(pieces: Pieces, geobox: GeoBox, told: Mapping[str, Any]) -> bytes:
    """A GeoParquet file of a block's pieces.

    Args:
        pieces: What the block holds.
        geobox: The plan's grid, in whose CRS the file is.
        told: What it is a part of, as plain JSON values.
    """
    features, table = pieces.features, pieces.features.table
    numbers = np.column_stack([table.count, table.total, table.peak, table.box, table.first])
    on_grid = shapely.transform(_shapes(features), lambda points: _places(points, geobox))
    columns = {
        "geometry": pa.array(shapely.to_wkb(on_grid, flavor="iso"), pa.binary()),
        "score": pa.array(table.score),
        **{name: pa.array(numbers[:, index]) for index, name in enumerate(_COLUMNS[:-1])},
        "parent": pa.array(np.asarray(pieces.parent, np.int64)),
    }
    note = {
        "about": dict(told),
        "outline": _outline(features),
        "scale": table.scale,
        "wholes": pieces.wholes,
        "rim": pieces.rim.tolist(),
        "whole_edges": {side: _packed(pieces.whole_edges[side]) for side in SIDES},
        "piece_edges": {side: _packed(pieces.piece_edges[side]) for side in SIDES},
    }
    kinds = sorted({shape.geom_type for shape in on_grid})
    geo = {
        "version": "1.0.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": kinds,
                "crs": None if geobox.crs is None else geobox.crs.proj.to_json_dict(),
            }
        },
    }
    file = io.BytesIO()
    found = pa.table(columns).replace_schema_metadata(
        {b"geo": json.dumps(geo).encode(), _KEY: json.dumps(note).encode()}
    )
    pq.write_table(found, file, compression="zstd")
    return file.getvalue()


def unpack(data: bytes, geobox: GeoBox) -> Pieces:
    """The pieces that `pack` wrote.

    Args:
        data: The file.
        geobox: The plan's grid.

    Raises:
        JobError: It is damaged, or no part.
    """
    try:
        found = pq.read_table(io.BytesIO(data))
        note = json.loads(found.schema.metadata[_KEY])
        numbers = {name: found[name].to_numpy().astype(np.int64) for name in _COLUMNS}
        shapes = shapely.from_wkb(found["geometry"].to_numpy(zero_copy_only=False))
        whole_edges = {side: _unpacked(note["whole_edges"][side]) for side in SIDES}
        piece_edges = {side: _unpacked(note["piece_edges"][side]) for side in SIDES}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise JobError(f"a part is damaged ({type(error).__name__}: {error})") from error
    # Corners of pixels are whole numbers, so going to the CRS and back loses nothing; but -0 is no corner.
    shapes = shapely.transform(
        shapes, lambda points: np.rint(_places(points, geobox, back=True)) + 0.0
    )
    outline: Outline = note["outline"]
    return Pieces(
        features=Features(
            table=Table(
                count=numbers["count"],
                total=numbers["total"],
                peak=numbers["peak"],
                box=np.column_stack([numbers[name] for name in ("x0", "y0", "x1", "y1")]),
                first=np.column_stack([numbers["row"], numbers["col"]]),
                scale=note["scale"],
            ),
            polygons=np.asarray(shapes, object) if outline == "polygon" else None,
            hulls=_hulls(shapes) if outline == "oriented" else None,
        ),
        parent=numbers["parent"],
        wholes=note["wholes"],
        rim=np.array(note["rim"], np.int64),
        whole_edges=whole_edges,
        piece_edges=piece_edges,
    )


def about(data: bytes) -> dict[str, Any]:
    """What `pack` was told of a part.

    Raises:
        JobError: It is damaged, or no part.
    """
    try:
        note = json.loads(pq.read_schema(io.BytesIO(data)).metadata[_KEY])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"a part is damaged ({type(error).__name__}: {error})") from error
    told: dict[str, Any] = note["about"]
    return told


def _outline(features: Features) -> Outline:
    if features.polygons is not None:
        return "polygon"
    return "box" if features.hulls is None else "oriented"


def _shapes(features: Features) -> NDArray[np.object_]:
    if features.polygons is not None:
        return features.polygons
    if features.hulls is None:
        return np.asarray(shapely.polygons(upright(features.table.box)), object)
    points, begin = features.hulls.points, features.hulls.begin
    rings = [points[start:stop] for start, stop in pairwise(begin)]
    return np.array([shapely.Polygon(ring) for ring in rings], object)


def _hulls(shapes: NDArray[np.object_]) -> Hulls:
    rings = [shapely.get_coordinates(shape)[:-1].astype(np.int64) for shape in shapes]
    return Hulls(
        points=np.concatenate([np.zeros((0, 2), np.int64), *rings]),
        begin=np.cumsum([0, *map(len, rings)]),
    )


def _places(
    points: NDArray[np.float64], geobox: GeoBox, *, back: bool = False
) -> NDArray[np.float64]:
    a, b, c, d, e, f = (~geobox.affine if back else geobox.affine)[:6]
    x, y = points.T
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _packed(edge: I64) -> str:
    return base64.b64encode(zlib.compress(edge.astype("<i8").tobytes())).decode()


def _unpacked(text: str) -> I64:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").astype(np.int64)
