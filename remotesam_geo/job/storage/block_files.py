"""Components of one block as GeoParquet, with all that is needed to join them across blocks.

A part opens anywhere as what was found in its block, cut at the block's border. The file's metadata also holds which
component each pixel along the border belongs to, so that whole features are made from parts alone, and a seal: the
digest of the rest of the file, of its place and of what it was made from.
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
from remotesam_geo.mapping.polygons import SIDES, Features, Outline, Pieces
from remotesam_geo.tasks import Hulls, Table, upright

from .map_store import digest

__all__ = ["about", "check", "pack", "seal_of", "unpack"]

I64 = NDArray[np.int64]

_KEY = b"remotesam_geo"
_SEAL = b'"seal": "'
_BLANK = "0" * 32
_COLUMNS = ("count", "total", "peak", "x0", "y0", "x1", "y1", "row", "col", "parent")


def pack(pieces: Pieces, geobox: GeoBox, told: Mapping[str, Any], *place: Any) -> bytes:
    """A GeoParquet file of a block's components.

    Args:
        pieces: What the block holds.
        geobox: The plan's grid, in whose CRS the file is.
        told: What it is a part of, as plain JSON values.
        place: What the seal binds the file to: layer, date, block, and the digests of what it was made from.
    """
    features, table = pieces.features, pieces.features.table
    numbers = np.column_stack([table.count, table.total, table.peak, table.box, table.first])
    on_grid = shapely.transform(_stored_shapes(features), lambda points: _block_grid_coordinates(points, geobox))
    columns = {
        "geometry": pa.array(shapely.to_wkb(on_grid, flavor="iso"), pa.binary()),
        "score": pa.array(table.score),
        **{name: pa.array(numbers[:, index]) for index, name in enumerate(_COLUMNS[:-1])},
        "parent": pa.array(np.asarray(pieces.parent, np.int64)),
    }
    note = {
        "seal": _BLANK,
        "about": dict(told),
        "outline": _stored_outline(features),
        "scale": table.scale,
        "wholes": pieces.wholes,
        "rim": pieces.rim.tolist(),
        "whole_edges": {side: _packed_block_edge(pieces.whole_edges[side]) for side in SIDES},
        "piece_edges": {side: _packed_block_edge(pieces.piece_edges[side]) for side in SIDES},
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
    found = pa.table(columns)
    with pq.ParquetWriter(file, found.schema, compression="zstd") as writer:
        writer.write_table(found)
        # Of the file, not of the schema: Arrow would write the schema's a second time.
        writer.add_key_value_metadata({"geo": json.dumps(geo), _KEY.decode(): json.dumps(note)})
    blank = file.getvalue()
    start = blank.rindex(_SEAL) + len(_SEAL)
    return blank[:start] + digest(blank, *place).encode() + blank[start + len(_BLANK) :]


def seal_of(data: bytes) -> str:
    """The seal that a part carries; "" where there is none."""
    start = data.rfind(_SEAL) + len(_SEAL)
    seal = data[start : start + len(_BLANK)]
    return seal.decode("ascii", "replace") if start >= len(_SEAL) else ""


def check(data: bytes, *place: Any) -> None:
    """Make sure that a part is as `pack` wrote it for this place.

    Raises:
        JobError: It is damaged, or belongs elsewhere.
    """
    seal, start = seal_of(data), data.rfind(_SEAL) + len(_SEAL)
    blank = data[:start] + _BLANK.encode() + data[start + len(_BLANK) :]
    if digest(blank, *place) != seal:
        raise JobError("a part is damaged: its digest is not the one that was noted")


def unpack(data: bytes, geobox: GeoBox) -> Pieces:
    """The components that `pack` wrote.

    Args:
        data: The file, which `check` has passed.
        geobox: The plan's grid.

    Raises:
        JobError: It is damaged, or no part.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        found, note = file.read(), json.loads(file.metadata.metadata[_KEY])
        numbers = {name: found[name].to_numpy().astype(np.int64) for name in _COLUMNS}
        shapes = shapely.from_wkb(found["geometry"].to_numpy(zero_copy_only=False))
        whole_edges = {side: _unpacked_block_edge(note["whole_edges"][side]) for side in SIDES}
        piece_edges = {side: _unpacked_block_edge(note["piece_edges"][side]) for side in SIDES}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise JobError(f"a part is damaged ({type(error).__name__}: {error})") from error
    # Corners of pixels are whole numbers, so going to the CRS and back loses nothing; but -0 is no corner.
    shapes = shapely.transform(shapes, lambda points: np.rint(_block_grid_coordinates(points, geobox, back=True)) + 0.0)
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
            hulls=_stored_hulls_of_shapes(shapes) if outline == "oriented" else None,
        ),
        parent=numbers["parent"],
        wholes=note["wholes"],
        rim=np.array(note["rim"], np.int64),
        whole_edges=whole_edges,
        piece_edges=piece_edges,
    )


def about(data: bytes) -> dict[str, Any]:
    """What `pack` was told about a part.

    Raises:
        JobError: It is damaged, or no part.
    """
    try:
        note = json.loads(pq.read_metadata(io.BytesIO(data)).metadata[_KEY])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"a part is damaged ({type(error).__name__}: {error})") from error
    told: dict[str, Any] = note["about"]
    return told


def _stored_outline(features: Features) -> Outline:
    if features.polygons is not None:
        return "polygon"
    return "box" if features.hulls is None else "oriented"


def _stored_shapes(features: Features) -> NDArray[np.object_]:
    if features.polygons is not None:
        return features.polygons
    if features.hulls is None:
        return np.asarray(shapely.polygons(upright(features.table.box)), object)
    points, begin = features.hulls.points, features.hulls.begin
    rings = [points[start:stop] for start, stop in pairwise(begin)]
    return np.array([shapely.Polygon(ring) for ring in rings], object)


def _stored_hulls_of_shapes(shapes: NDArray[np.object_]) -> Hulls:
    rings = [shapely.get_coordinates(shape)[:-1].astype(np.int64) for shape in shapes]
    return Hulls(
        points=np.concatenate([np.zeros((0, 2), np.int64), *rings]),
        begin=np.cumsum([0, *map(len, rings)]),
    )


def _block_grid_coordinates(points: NDArray[np.float64], geobox: GeoBox, *, back: bool = False) -> NDArray[np.float64]:
    a, b, c, d, e, f = (~geobox.affine if back else geobox.affine)[:6]
    x, y = points.T
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _packed_block_edge(edge: I64) -> str:
    return base64.b64encode(zlib.compress(edge.astype("<i8").tobytes())).decode()


def _unpacked_block_edge(text: str) -> I64:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").astype(np.int64)
