"""Triplets on disk: shards of Parquet, and each picture once, as the file it was."""

import contextlib
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from remotesam_geo.errors import InputError

from .faults import LIMITS, DamageError, SizeLimits, label_json
from .picture_files import find_picture, write_whole
from .records import GroundPlace, Picture, Triplet
from .run_length_mask import Mask

__all__ = ["TripletStore", "write_store"]

VERSION = 1
ABOUT, IMAGES = "triplets.json", "images"
BEGUN = f"{ABOUT}.partial"
"""Is there while a store is written: the parts beside it are not complete."""
GROUP = 256  # rows that are read together, also for one
KEPT = 16  # groups held in memory

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("picture", pa.string()),
        ("name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("expression", pa.string()),
        ("mask", pa.string()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("label", pa.dictionary(pa.int32(), pa.string())),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("crs", pa.dictionary(pa.int32(), pa.string())),
        ("transform", pa.list_(pa.float64())),
    ]
)


def write_store(triplets: Iterable[Triplet], folder: Path | str, *, shard: int = 50_000) -> "TripletStore":
    """Write triplets as they come; memory holds one group of rows.

    A picture is named by the hash of its bytes, so that it is written once however often it is asked. The folder is
    complete once `triplets.json` is there; one that has it is not written over.

    Args:
        triplets: What to write.
        folder: A new or empty folder.
        shard: Triplets a file.

    Raises:
        InputError: The folder holds triplets already, or other files of the same names.
    """
    folder = Path(folder)
    if (folder / ABOUT).exists():
        raise InputError(f"{folder} holds triplets already: choose a new folder")
    old = sorted(folder.glob("part-*.parquet"))
    if old and not (folder / BEGUN).exists():
        raise InputError(
            f"{folder} holds other files, {old[0].name} for example, that would be replaced: choose a new folder"
        )
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    (folder / BEGUN).touch()
    for path in old:  # of a run that did not finish
        path.unlink()
    counts: list[int] = []
    rows: list[dict[str, Any]] = []
    writer: pq.ParquetWriter | None = None
    named: tuple[Picture, str] | None = None  # triplets of one picture follow each other
    try:
        for triplet in triplets:
            if named is None or named[0] is not triplet.picture:
                named = triplet.picture, _write_shard_once(triplet.picture, folder / IMAGES)
            if writer is None:
                writer = pq.ParquetWriter(
                    folder / _part_file_name(len(counts)),
                    SCHEMA,
                    compression="zstd",
                    write_page_checksum=True,
                )
                counts.append(0)
            rows.append(_row_of_triplet(triplet, named[1]))
            counts[-1] += 1
            if len(rows) == GROUP or counts[-1] == shard:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows.clear()
            if counts[-1] == shard:
                writer.close()
                writer = None
        if rows and writer is not None:
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    finally:
        if writer is not None:
            writer.close()
    write_whole(folder / ABOUT, json.dumps({"version": VERSION, "parts": counts}).encode())
    (folder / BEGUN).unlink()
    return TripletStore(folder)


class TripletStore(Sequence[Triplet]):
    """Triplets of a folder, by number or one after the other; few are in memory at a time.

    Args:
        folder: What `write_store` wrote.
        limits: What is accepted.

    Raises:
        DamageError: The folder is incomplete or damaged.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from remotesam_geo.learning.datasets import Mask, Picture, Triplet, write_store
        >>> picture = Picture.of("a", np.zeros((4, 4, 3), np.uint8))
        >>> nothing = Triplet(picture=picture, expression="the ship", mask=Mask.empty((4, 4)), kind="one-to-zero")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = write_store([nothing, nothing], folder)
        ...     len(store), store[1].expression, store[1].picture.read().shape
        (2, 'the ship', (4, 4, 3))
    """

    def __init__(self, folder: Path | str, *, limits: SizeLimits = LIMITS) -> None:
        self.folder, self._limits = Path(folder), limits
        about = label_json(self.folder / ABOUT, limits)
        if not isinstance(about, dict) or about.get("version") != VERSION:
            raise DamageError("store", f"{self.folder} is no store of version {VERSION}")
        counts = about.get("parts")
        if not isinstance(counts, list) or not all(type(n) is int and n > 0 for n in counts):
            raise DamageError("store", f"{self.folder / ABOUT} is damaged")
        self._groups: list[tuple[int, int, int]] = []  # part, group in it, rows
        for part, expected in enumerate(counts):
            with _named_part_errors(part):
                about_part = self._file(part).metadata
            rows = [about_part.row_group(g).num_rows for g in range(about_part.num_row_groups)]
            if sum(rows) != expected:
                raise DamageError("store", f"{_part_file_name(part)} holds {sum(rows)} triplets, not {expected}")
            self._groups += [(part, g, n) for g, n in enumerate(rows)]
        self._length = sum(counts)
        self._tables: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Triplet: ...

    @overload
    def __getitem__(self, index: slice) -> list[Triplet]: ...

    def __getitem__(self, index: int | slice) -> Triplet | list[Triplet]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(self._length))]
        place = index + self._length if index < 0 else index
        if not 0 <= place < self._length:
            raise IndexError(f"triplet {index} of {self._length}")
        for number, (_, _, rows) in enumerate(self._groups):
            if place < rows:
                return self._triplet(self._rows(number)[place])
            place -= rows
        raise IndexError(f"triplet {index} of {self._length}")

    def __iter__(self) -> Iterator[Triplet]:
        for number in range(len(self._groups)):
            before: tuple[str, Picture] | None = None
            for row in self._rows(number):
                picture = before[1] if before and before[0] == row["picture"] else None
                triplet = self._triplet(row, picture)
                before = row["picture"], triplet.picture
                yield triplet

    def _file(self, part: int) -> pq.ParquetFile:
        file = pq.ParquetFile(self.folder / _part_file_name(part), page_checksum_verification=True)
        if file.schema_arrow.names != SCHEMA.names:
            raise DamageError("store", f"{_part_file_name(part)} has the columns {file.schema_arrow.names}")
        return file

    def _rows(self, number: int) -> list[dict[str, Any]]:
        if number not in self._tables:
            part, group, expected = self._groups[number]
            with _named_part_errors(part):
                rows = self._file(part).read_row_group(group).cast(SCHEMA).to_pylist()
            if len(rows) != expected or any(row[name] is None for row in rows for name in SCHEMA.names):
                raise DamageError("store", f"{_part_file_name(part)} is damaged: it lacks values")
            self._tables[number] = rows
            while len(self._tables) > KEPT:
                self._tables.popitem(last=False)
        self._tables.move_to_end(number)
        return self._tables[number]

    def _triplet(self, row: dict[str, Any], picture: Picture | None = None) -> Triplet:
        shape = (row["height"], row["width"])
        self._limits.check_size(shape, f"the picture {row['name']!r}")
        if picture is None:
            place = GroundPlace(crs=row["crs"], transform=tuple(row["transform"])) if row["crs"] else None
            path = find_picture(self.folder / IMAGES, row["picture"])
            picture = Picture(name=row["name"], content=path, shape=shape, place=place, sha256=path.stem)
        return Triplet(
            picture=picture,
            expression=row["expression"],
            mask=Mask(shape=shape, counts=row["mask"]),
            kind=row["kind"],
            label=row["label"],
            attributes=dict(row["attributes"]),
            source=row["source"],
            split=row["split"],
            id=row["id"],
        )


@contextlib.contextmanager
def _named_part_errors(part: int) -> Iterator[None]:
    """Name the part in what goes wrong; Arrow checks a file where it is first used."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, OverflowError, LookupError, TypeError) as error:
        if isinstance(error, DamageError):
            raise
        raise DamageError("store", f"{_part_file_name(part)} cannot be read: {error}") from error


def _part_file_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def keep_picture(picture: Picture, folder: Path) -> str:
    """Write a picture into a store's folder, once; where it lies in there."""
    return f"{IMAGES}/{_write_shard_once(picture, folder / IMAGES)}"


def _write_shard_once(picture: Picture, folder: Path) -> str:
    data, extension = picture.encoded()
    name = f"{hashlib.sha256(data).hexdigest()[:32]}{extension}"
    if not (folder / name).exists():
        write_whole(folder / name, data)
    return name


def _row_of_triplet(triplet: Triplet, picture: str) -> dict[str, Any]:
    place = triplet.picture.place
    height, width = triplet.picture.shape
    return {
        "id": triplet.id,
        "picture": picture,
        "name": triplet.picture.name,
        "height": height,
        "width": width,
        "expression": triplet.expression,
        "mask": triplet.mask.counts,
        "kind": triplet.kind,
        "label": triplet.label,
        "attributes": list(triplet.attributes.items()),
        "source": triplet.source,
        "split": triplet.split,
        "crs": "" if place is None else place.crs,
        "transform": [] if place is None else list(place.transform),
    }
