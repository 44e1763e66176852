"""The published layout of referring segmentation: `refs(unc).p` beside `instances.json` (RRSIS-D, RemoteSAM-270K)."""

import io
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Unpack

import numpy as np

from remotesam_geo.words import CLASS_TEMPLATE

from .faults import (
    DamageError,
    ReaderLog,
    ReadOptions,
    SizeLimits,
    entry,
    label_bytes,
    label_json,
    listed,
    reader,
    short,
)
from .picture_files import known_picture, write_picture, write_whole
from .records import Kind, Picture, Triplet
from .run_length_mask import Mask

__all__ = ["load_plain_pickle", "read_published", "write_published"]

REFS, INSTANCES = "refs(unc).p", "instances.json"
# Operations that make sets, buffers and objects. Those that name a class stay, so that the refusal can name it too.
_REFUSED = {
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8, pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER, pickle.BUILD, pickle.REDUCE, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.OBJ,
    pickle.EXT1, pickle.EXT2, pickle.EXT4,
}  # fmt: skip


@reader
def read_published(
    folder: Path | str,
    images: Path | str | None = None,
    *,
    split: str | None = None,
    text: Literal["raw", "sent"] = "raw",
    sentences: Literal["all", "first"] = "all",
    overlaps: Literal["keep", "drop"] = "keep",
    **options: Unpack[ReadOptions],
) -> Iterator[Triplet]:
    """Triplets of the published layout, one for each sentence.

    Args:
        folder: Where `refs(unc).p` and `instances.json` lie.
        images: Where the pictures lie; by default `JPEGImages` in the folder, or the folder.
        split: "test" takes every split with "test" in its name, others must match; None takes all.
        text: Which spelling of a sentence is asked: RRSIS-D is evaluated on "raw", RemoteSAM-270K trained on "sent".
        sentences: All of a reference, or the first.
        overlaps: Where parts of one mask overlap, "drop" leaves the overlap out, as the published loader does.
        **options: See `ReadOptions`.

    Raises:
        DamageError: Something is missing, damaged or hostile.
    """
    folder = Path(folder)
    pictures = _picture_folder(folder) if images is None else Path(images)
    log = ReaderLog(**options)
    refs = load_plain_pickle(label_bytes(folder / REFS, log.limits))
    instances = label_json(folder / INSTANCES, log.limits)
    if not isinstance(refs, list):
        raise DamageError("label file", f"{REFS} holds a {type(refs).__name__}, not a list")
    shapes, names = _name_tables(instances)
    annotations = {
        row["id"]: row
        for row in entry(instances, "annotations", list, INSTANCES)
        if isinstance(row, dict) and isinstance(row.get("id"), str | int)
    }
    for number, ref in enumerate(refs):
        with log.passing(f"reference {number} of {REFS}"):
            if not _split_is_wanted(entry(ref, "split", str, "a reference"), split):
                continue
            name = entry(ref, "file_name", str, "a reference")
            image_id = ref.get("image_id")
            shape = listed(shapes, image_id)
            if shape is None:
                raise DamageError("label file", f"the picture {short(image_id)} is not in {INSTANCES}")
            annotation = listed(annotations, ref.get("ann_id"))
            if annotation is None:
                raise DamageError("label file", f"the annotation {short(ref.get('ann_id'))} is not in {INSTANCES}")
            picture = known_picture(pictures, name, shape, log.limits)
            said = entry(ref, "sentences", list, "a reference")
            # An annotation of something absent has no part; nothing is drawn for it.
            some = bool(annotation.get("segmentation"))
            mask = (
                _mask_of_segmentation(annotation["segmentation"], picture, overlaps, log.limits)
                if some
                else Mask.empty(picture.shape)
            )
            label = listed(names, ref.get("category_id")) or ""
            for turn, sentence in enumerate(said if sentences == "all" else said[:1]):
                expression = entry(sentence, text, str, "a sentence")
                there = bool(sentence.get("exist", True)) and mask.area > 0
                yield Triplet(
                    picture=picture,
                    expression=expression,
                    mask=mask if there else Mask.empty(picture.shape),
                    kind=_kind_of_expression(expression, label, there=there),
                    label=label,
                    source=log.source,
                    split=ref["split"],
                    id=f"{ref.get('ref_id')}.{sentence.get('sent_id', turn)}",
                )
    log.warn(f"reading {folder.name}")


def write_published(triplets: Iterable[Triplet], folder: Path | str) -> int:
    """Write triplets in the published layout: pictures, `instances.json`, `refs(unc).p`; the number written.

    Attributes of triplets have no place in it and are left out.
    """
    folder = Path(folder)
    images: dict[str, dict[str, Any]] = {}
    labels: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    for number, triplet in enumerate(triplets):
        name = write_picture(triplet.picture, folder / "JPEGImages")
        height, width = triplet.picture.shape
        image = images.setdefault(name, {"id": len(images), "file_name": name, "width": width, "height": height})
        category = labels.setdefault(triplet.label, len(labels) + 1)
        there = triplet.kind != "one-to-zero"
        x0, y0, x1, y1 = triplet.mask.box or (0, 0, 0, 0)
        annotations.append(
            {
                "id": number,
                "image_id": image["id"],
                "category_id": category,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": triplet.mask.area,
                "iscrowd": 0,
                # A list even of one: the published loader sums over it.
                "segmentation": [triplet.mask.to_coco()],
            }
        )
        refs.append(
            {
                "ref_id": number,
                "ann_id": number,
                "image_id": image["id"],
                "category_id": category,
                "file_name": name,
                "split": triplet.split,
                "sent_ids": [number],
                "sentences": [
                    {
                        "tokens": triplet.expression.split(),
                        "raw": triplet.expression,
                        "sent": triplet.expression,
                        "sent_id": number,
                        "exist": there,
                    }
                ],
            }
        )
    categories = [{"id": number, "name": label} for label, number in labels.items()]
    whole = {"images": [*images.values()], "annotations": annotations, "categories": categories}
    write_whole(folder / INSTANCES, json.dumps(whole).encode())
    write_whole(folder / REFS, pickle.dumps(refs, protocol=2))  # what older tools read
    return len(refs)


_LOADERS: Mapping[int, Callable[[Any], None]] = pickle._Unpickler.dispatch


class _Plain(pickle._Unpickler):
    """Knows lists, mappings, tuples, texts, bytes and numbers, and nothing that could run.

    It is Python's own reader in Python: the one in C makes room for whatever number a PUT or a BYTEARRAY8 names, and
    hashes nested tuples until the stack overflows. Keys of mappings are texts or numbers here, and operations that
    build anything else are not known.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise DamageError(
            "pickle",
            f"the pickle asks for {module}.{name}: a file of references holds lists, mappings, texts and numbers only",
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        raise DamageError("pickle", f"the pickle asks for an outside object {short(pid)}")

    stack: list[Any]

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        _LOADERS[pickle.SETITEM[0]](self)

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        _LOADERS[pickle.SETITEMS[0]](self)

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        _LOADERS[pickle.DICT[0]](self)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{code: load for code, load in _LOADERS.items() if bytes([code]) not in _REFUSED},
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
    }


def _check_keys(keys: Sequence[Any]) -> None:
    for key in keys:
        if not isinstance(key, str | int | float | bytes | None):
            raise DamageError("pickle", f"the pickle holds a mapping with the key {short(key)}")


def load_plain_pickle(data: bytes) -> Any:
    """What a pickle of plain values holds; anything that names a class or function is refused unrun.

    Raises:
        DamageError: It is hostile or damaged.

    Examples:
        >>> import pickle
        >>> from remotesam_geo.learning.datasets import load_plain_pickle
        >>> load_plain_pickle(pickle.dumps([{"ref_id": 0}]))
        [{'ref_id': 0}]
    """
    try:
        return _Plain(io.BytesIO(data), encoding="utf-8").load()
    except DamageError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise DamageError("pickle", f"the pickle is damaged: {type(error).__name__}: {error}") from error


def _picture_folder(folder: Path) -> Path:
    own = folder / "JPEGImages"
    return own if own.is_dir() else folder


def _split_is_wanted(own: str, split: str | None) -> bool:
    if split is None:
        return True
    return "test" in own if split == "test" else own == split


def _name_tables(instances: Any) -> tuple[dict[Any, tuple[int, int]], dict[Any, str]]:
    shapes = {}
    for row in entry(instances, "images", list, INSTANCES):
        height = entry(row, "height", int, "an image")
        shapes[entry(row, "id", (int, str), "an image")] = (
            height,
            entry(row, "width", int, "an image"),
        )
    names = {
        entry(row, "id", (int, str), "a category"): entry(row, "name", str, "a category")
        for row in entry(instances, "categories", list, INSTANCES)
    }
    return shapes, names


def _mask_of_segmentation(
    segmentation: Any, picture: Picture, overlaps: Literal["keep", "drop"], limits: SizeLimits
) -> Mask:
    if overlaps == "keep" or not isinstance(segmentation, list) or len(segmentation) == 1:
        return Mask.of_coco(segmentation, picture.shape, limits=limits)
    parts = [Mask.of_coco([part], picture.shape, limits=limits) for part in segmentation]
    return Mask.of(np.sum([part.pixels() for part in parts], axis=0) == 1)


def _kind_of_expression(expression: str, label: str, *, there: bool) -> Kind:
    if not there:
        return "one-to-zero"
    of_class = bool(label) and expression == CLASS_TEMPLATE.replace("{name}", label)
    return "one-to-many" if of_class else "one-to-one"
