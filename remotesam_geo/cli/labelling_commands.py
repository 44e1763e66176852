"""The data engine on the command line: from pictures and labels to triplets, by rules."""

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from remotesam_geo.errors import InputError, WriteError, number_in

from . import printing as saying
from . import scene_inputs as places
from .scene_inputs import Bbox, Catalog, Collection, Datetime, MaxItems
from .verb_commands import Json, Load, Resolution, Skip, asked_metres

__all__ = ["register"]

PAGES = (".png", ".jpg", ".jpeg", ".webp")


class Colours(StrEnum):
    """Where the colours of things come from."""

    measured = "measured"
    given = "given"
    none = "none"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("engine", rich_help_panel="Models")(engine)


SEARCHED = {"catalog", "collection", "bbox", "datetime", "max_items", "load"}
CUT = {"label", "overlap", "resolution", "empty"}
"""How chips are cut from one large raster."""


def engine(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where the triplets come to lie; run it again to go on.")],
    source: Annotated[
        str | None,
        typer.Argument(help="A raster (path or URL), saved items, '-' with --catalog, or a folder of pictures."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What is to be seen: labelled polygons in any vector file; of a folder of pictures a COCO file."
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="The column of their classes.")] = "label",
    world: Annotated[
        int | None,
        typer.Option(help="So many scenes of the procedural world in place of a source."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="A class the labels are complete for; may be given again. By default theirs.",
        ),
    ] = None,
    colours: Annotated[
        Colours | None,
        typer.Option(help="Measured in the pixels, given in a column 'colour', or not spoken of."),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of a chip in pixels (896; world: 256).")] = None,
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring chips share.")] = 0,
    resolution: Resolution = None,
    empty: Annotated[bool, typer.Option("--empty", help="Keep chips without any label too.")] = False,
    rectangles: Annotated[
        bool, typer.Option("--rectangles", help="Take boxes for masks where there are only boxes.")
    ] = False,
    absent: Annotated[int, typer.Option(help="Absent classes to ask a picture for.")] = 2,
    foreign: Annotated[int, typer.Option(help="Names of other domains to ask a picture for.")] = 1,
    near: Annotated[int | None, typer.Option(help="Pass over near-duplicates: bits of 64 that may differ.")] = None,
    seed: Annotated[int, typer.Option(help="Of all drawing; of the world, its first scene.")] = 0,
    page: Annotated[Path | None, typer.Option(help="Draw some triplets on a page: .png, .jpg.")] = None,
    skip_failures: Skip = False,
    catalog: Catalog = None,
    collection: Collection = None,
    bbox: Bbox = None,
    datetime: Datetime = None,
    max_items: MaxItems = None,
    load: Load = None,
    as_json: Json = False,
) -> int:
    """Make image-text-mask triplets of pictures and labels, by rules that leave no doubt."""
    from remotesam_geo.learning.labelling import run_engine, sheet, statistics

    _check_numbers_and_page(size, overlap, page)
    where = {
        "catalog": catalog, "collection": collection, "bbox": bbox, "datetime": datetime, "max_items": max_items,
        "load": load,
    }  # fmt: skip
    cut = {"size": size, "overlap": overlap, "resolution": resolution, "empty": empty}
    if world is not None:
        if source is not None or labels is not None:
            raise InputError("give --world, or a source with --labels, not both")
        saying.refuse(context, {*SEARCHED, *CUT, "rectangles"}, "with --world")
        pictures, known, about = _label_procedural_world(world, seed, size)
        colours = colours or Colours.given
    elif source is None:
        raise InputError("nothing to ask of: give a source with --labels, or --world")
    elif labels is None:
        raise InputError(f"--labels is missing: which file says what is to be seen in {source}?")
    elif Path(source).is_dir():
        saying.refuse(context, {*SEARCHED, *CUT, "size"}, "on a folder of pictures")
        pictures, known, about = _label_folder(Path(source), labels, skip_failures=skip_failures)
    else:
        saying.refuse(context, {"rectangles"}, "on polygons, which are masks already")
        given = colours is Colours.given
        pictures, known, about = _label_scene(source, labels, label, where, cut, given=given)
    steps = _labelling_steps(
        tuple(classes or known), (colours or Colours.measured).value, rectangles=rectangles, absent=absent,
        foreign=foreign, near=near, seed=seed,
    )  # fmt: skip
    with saying.working():
        store, report = run_engine(
            pictures,
            folder,
            engine=steps,
            about=about,
            on_error="skip" if skip_failures else "raise",
        )
    figures = statistics(store)
    if page is not None and len(store):
        try:
            sheet(store).save(page)
        except OSError as error:
            raise WriteError(f"cannot write {page}: {error}") from error
        saying.note(f"some of them in {page}")
    if as_json:
        told = {
            "folder": folder,
            "triplets": len(store),
            "kinds": report.kinds,
            "report": report.to_json(),
        }
        saying.result({**told, "statistics": figures.to_json(), "page": page}, as_json=True)
    else:
        saying.text(f"{report.table()}\n\n{figures.table()}")
        saying.note(f"{len(store):,} triplets in {folder}")
    return saying.found(len(store), "nothing in these pictures could be asked for")


def _check_numbers_and_page(size: int | None, overlap: int, page: Path | None) -> None:
    if size is not None:
        number_in("--size", size, 32, 1 << 14, whole=True)
    number_in("--overlap", overlap, 0, (size or 896) - 1, whole=True)
    if page is not None and page.suffix.lower() not in PAGES:
        raise InputError(f"--page is {page}: name a picture, {', '.join(PAGES)}")
    if page is not None and not page.parent.is_dir():
        raise InputError(f"--page is {page}: there is no folder {page.parent}")


def _labelling_steps(
    classes: tuple[str, ...],
    colours: Any,
    *,
    rectangles: bool,
    absent: int,
    foreign: int,
    near: int | None,
    seed: int,
) -> Any:
    """The engine of rules with what was chosen."""
    from remotesam_geo.learning.labelling import (
        AbsentClasses,
        Engine,
        GivenMasks,
        KindClasses,
        SingleThings,
    )

    if min(absent, foreign, 0 if near is None else near) < 0:
        raise InputError(f"--absent {absent}, --foreign {foreign}, --near {near}: give 0 or more")
    if near is not None and near > 64:
        raise InputError(f"--near is {near}: pictures are compared by 64 bits, give 0 to 64")
    return Engine(
        expressions=(
            KindClasses(),
            AbsentClasses(classes=classes, known=absent, foreign=foreign),
            SingleThings(colours=colours),
        ),
        masks=(GivenMasks(boxes="rectangle" if rectangles else "drop"),),
        near=near,
        seed=seed,
    )


Pictures = tuple[Any, Iterable[str], str]
"""What `run_engine` takes as a source, the classes, and what it is of."""


def _label_procedural_world(count: int, first: int, size: int | None) -> Pictures:
    from remotesam_geo.learning.labelling import world_example
    from remotesam_geo.learning.synthetic import CLASSES, scene

    side = 256 if size is None else size
    if count < 1 or first < 0:
        raise InputError(f"--world {count}, --seed {first}: give at least one scene, and a seed from 0")

    def pictures(done: frozenset[str]) -> Any:
        numbers = (k for k in range(first, first + count) if f"world-{k}" not in done)
        return (world_example(scene(k, size=side)) for k in numbers)

    return pictures, CLASSES, f"the procedural world, {side} pixels"


def _label_folder(pictures: Path, labels: Path, *, skip_failures: bool) -> Pictures:
    from remotesam_geo.learning.datasets import DamageError, read_coco
    from remotesam_geo.learning.datasets.faults import LIMITS, label_json

    if labels.suffix.lower() != ".json":
        raise InputError(f"--labels is {labels}: of a folder of pictures give a COCO file, .json")
    whole = label_json(labels, LIMITS)
    rows = whole.get("categories") if isinstance(whole, dict) else None
    if not isinstance(rows, list) or not rows:
        raise DamageError("label file", f"{labels} names no categories: give a COCO file")
    names = [row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)]
    with labels.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    examples = read_coco(labels, pictures, source=pictures.name, on_error="skip" if skip_failures else "raise")
    return examples, names, f"{pictures} with labels {digest[:16]}"


def _label_scene(
    source: str,
    labels: Path,
    label: str,
    where: dict[str, Any],
    cut: dict[str, Any],
    *,
    given: bool,
) -> Pictures:
    from remotesam_geo.learning.datasets import cut_examples

    frame = places.table(labels)
    if label not in frame.columns:
        raise InputError(
            f"{labels} has no column {label!r}: name that of the classes with --label; there are {list(frame.columns)}"
        )
    if given and "colour" not in frame.columns:
        raise InputError(f"{labels} has no column 'colour': leave --colours given out, or add it")
    frame = frame[frame[label].notna() & ~(frame.geometry.is_empty | frame.geometry.isna())]
    if not len(frame):
        raise InputError(f"{labels} holds no labelled polygon: nothing to ask for")
    scene = places.opened(source, **where)
    options = {
        "size": cut["size"] or 896,
        "overlap": cut["overlap"],
        "resolution": asked_metres(cut["resolution"]) or "native",
        "empty": cut["empty"],
    }
    named = Path(source).stem if source != places.NO_SOURCE else "scene"

    def pictures(done: frozenset[str]) -> Any:
        return cut_examples(
            scene, frame, label=label, name=named, skip=done, attributes=("colour",) if given else (), **options
        )  # fmt: skip

    content = [str(frame.crs), *map(str, frame[label]), *frame.geometry.to_wkb(hex=True)]
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
    about = {"source": source, **where, **options, "labels": digest[:16]}
    return pictures, dict.fromkeys(map(str, frame[label])), json.dumps(about)
