"""The published tables, row by row: data, classes, rules and figures."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from remotesam_geo.errors import one_of
from remotesam_geo.learning.datasets import (
    BACKGROUND,
    ISAID,
    POTSDAM,
    Example,
    OnError,
    Triplet,
    read_captions,
    read_class_maps,
    read_coco,
    read_counts,
    read_dota,
    read_isaid,
    read_potsdam,
    read_published,
    read_refsegrs,
    read_rsvg,
)

from .setting import Setting, asked_as

__all__ = ["BENCHMARKS", "Benchmark"]

Data = Iterable[Example] | Iterable[Triplet]

DIOR = (
    "airplane", "airport", "baseballfield", "basketballcourt", "bridge", "chimney", "dam",
    "expressway-service-area", "expressway-toll-station", "golffield", "groundtrackfield", "harbor", "overpass",
    "ship", "stadium", "storagetank", "tenniscourt", "trainstation", "vehicle", "windmill",
)  # fmt: skip
DOTA = {  # as its labels say, and as the released weights were asked
    "plane": "airplane", "ship": "ship", "storage-tank": "storagetank", "baseball-diamond": "baseballfield",
    "tennis-court": "tenniscourt", "basketball-court": "basketballcourt", "ground-track-field": "groundtrackfield",
    "harbor": "harbor", "bridge": "bridge", "large-vehicle": "large-vehicle", "small-vehicle": "small-vehicle",
    "helicopter": "helicopter", "roundabout": "roundabout", "soccer-ball-field": "soccer-ball-field",
    "swimming-pool": "swimming-pool", "container-crane": "container-crane", "airport": "airport",
    "helipad": "helipad",
}  # fmt: skip
DIOR_COUNTED = {  # as the questions say, and as asked
    name: name.replace(" ", "") for name in (
        "baseball field", "basketball court", "tennis court", "ground track field", "storage tank", "golf field",
    )
} | {
    "railway station": "trainstation", "expressway toll station": "expressway-toll-station",
    "expressway service area": "expressway-service-area",
} | {name: name for name in ("airplane", "airport", "bridge", "chimney", "dam", "harbor", "overpass", "ship",
                             "stadium", "vehicle", "windmill")}  # fmt: skip
DIOR_PRIOR = dict(
    zip(
        DIOR,
        (36, 1824, 20, 88, 9, 12, 264, 110, 36, 2728, 132, 24, 9, 14, 255, 4, 36, 1170, 6, 27),
        strict=True,
    )
)
DOTA_PRIOR = {
    "airplane": 35, "ship": 15, "storagetank": 8, "baseballfield": 81, "tenniscourt": 153, "basketballcourt": 576,
    "groundtrackfield": 210, "harbor": 64, "bridge": 24, "vehicle": 21, "helicopter": 162, "roundabout": 16,
    "soccer-ball-field": 72, "swimming-pool": 20, "container-crane": 187, "airport": 1337, "helipad": 121,
}  # fmt: skip
UCM_CAPTIONS = (
    "road", "highway", "bank", "tenniscourt", "roof", "vehicle", "parking lot", "airplane", "stand", "farmland",
    "waste land", "basketballcourt", "storagetank", "pedestrian", "villa", "beach", "boat", "tree", "grass", "water",
    "trail", "park", "bush", "golffield", "house", "airport", "people", "overpass", "baseballfield", "swimming-pool",
    "bunker", "building", "harbor", "residential", "sand", "stadium", "intersection",
)  # fmt: skip
DEEPGLOBE = {
    "urban_land": (0, 255, 255), "agriculture_land": (255, 255, 0), "rangeland": (255, 0, 255),
    "forest_land": (0, 255, 0), "water": (0, 0, 255), "barren_land": (255, 255, 255),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One row of the published tables.

    Attributes:
        name: What it is called here.
        task: The task.
        data: The data set, for people.
        layout: What has to lie in the folder.
        read: Reads the folder.
        classes: What is asked.
        published: The figures, as printed.
        prior: Least pixels of an object that is counted.
    """

    name: str
    task: str
    data: str
    layout: str
    read: Callable[[Path, OnError], Data]
    classes: Mapping[str, tuple[str, ...]]
    published: Mapping[str, float]
    prior: Mapping[str, int] = field(default_factory=dict)

    def data_in(self, folder: Path, on_error: OnError = "raise") -> Data:
        """The data in a folder, with labels in the spelling of the classes."""
        one_of("on_error", on_error, get_args(OnError))
        return _known_labels(self.read(folder, on_error), self.classes)

    def setting(self, *, published: bool = False, prior: bool = False) -> Setting:
        """How it is evaluated.

        Args:
            published: As the published evaluation does, faults included.
            prior: Count only objects of the published least area.
        """
        return Setting(classes=self.classes, published=published, min_area=dict(self.prior) if prior else 1)


def _known_labels(data: Data, classes: Mapping[str, tuple[str, ...]]) -> Data:
    """Labels in the spelling of the classes: copies of a data set differ in capitals and hyphens."""
    known = {_benchmark_letters(label): label for label in classes}
    for one in data:
        if isinstance(one, Triplet):
            yield one
            continue
        things = tuple(
            replace(thing, label=known.get(_benchmark_letters(thing.label), thing.label)) for thing in one.things
        )
        counts = {known.get(_benchmark_letters(label), label): n for label, n in one.counts.items()}
        yield replace(one, things=things, counts=counts)


def _benchmark_letters(label: str) -> str:
    return "".join(letter for letter in label.lower() if letter.isalnum())


def _as_is(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return asked_as(list(names), spelling="as is")


def _benchmark_class_asked_as(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {label: _as_is([asked])[asked] for label, asked in names.items()}


def _benchmark_priors(asked: Mapping[str, str], prior: Mapping[str, int]) -> dict[str, int]:
    return {label: prior[name] for label, name in asked.items() if name in prior}


def _read_rrsis(folder: Path, on_error: OnError) -> Data:
    images = folder / "images" / "rrsisd" / "JPEGImages"
    labels = folder / "rrsisd"
    return read_published(
        labels if labels.is_dir() else folder,
        images if images.is_dir() else None,
        split="test",
        on_error=on_error,
    )


def _read_dior(folder: Path, on_error: OnError) -> Data:
    return read_coco(folder / "Annotations" / "DIOR_test.json", folder / "JPEGImages", on_error=on_error)


def _read_dota_files(folder: Path, on_error: OnError) -> Data:
    labels = next((folder / n for n in ("labelTxt", "annfiles") if (folder / n).is_dir()), folder / "labelTxt")
    return read_dota(labels, folder / "images", on_error=on_error)


def _read_isaid_files(folder: Path, on_error: OnError) -> Data:
    return read_isaid(folder / "images", folder / "maps", on_error=on_error)


def _read_potsdam_files(folder: Path, on_error: OnError) -> Data:
    return read_potsdam(folder / "images", folder / "labels", on_error=on_error)


def _read_deepglobe(folder: Path, on_error: OnError) -> Data:
    return read_class_maps(
        folder / "images", folder / "labels", tuple(DEEPGLOBE), colors=tuple(DEEPGLOBE.values()),
        unknown=((0, 0, 0),), on_error=on_error,
    )  # fmt: skip


def _read_count_files(folder: Path, on_error: OnError) -> Data:
    return read_counts(folder / "counts.json", folder / "images", on_error=on_error)


_DIOR_LAYOUT = "`Annotations/DIOR_test.json` (COCO), `JPEGImages/`"
_DOTA_LAYOUT = "`labelTxt/` or `annfiles/`, `images/`"
_ISAID_LAYOUT = "`images/`, `maps/` with `*_instance_color_RGB.png`, `*_instance_id_RGB.png`"
_LAND = [name for name in POTSDAM if name != "clutter"]
_THINGS = _as_is(name for name in ISAID if name != BACKGROUND)
_COUNTS_LAYOUT = "`counts.json` (list of questions), `images/`"
_DOTA_COUNTED = {name.replace("-", " "): name for name in DOTA_PRIOR} | {n: n for n in DOTA_PRIOR}

BENCHMARKS: Mapping[str, Benchmark] = {
    row.name: row
    for row in (
        Benchmark(
            name="rrsis-d", task="referring", data="RRSIS-D test",
            layout="`refs(unc).p`, `instances.json`, `JPEGImages/`, or as published", read=_read_rrsis, classes={},
            published={"oIoU": 80.04, "mIoU": 71.75, "Pr@0.5": 84.46, "Pr@0.7": 66.25, "Pr@0.9": 29.62},
        ),
        Benchmark(
            name="risbench", task="referring", data="RISBench test", layout="brought to the layout of RRSIS-D",
            read=_read_rrsis, classes={}, published={"oIoU": 75.93, "mIoU": 71.46, "Pr@0.5": 79.16},
        ),
        Benchmark(
            name="refsegrs", task="referring", data="RefSegRS test",
            layout="`output_phrase_test.txt`, `images/`, `masks/`",
            read=lambda folder, on_error: read_refsegrs(folder, "test", on_error=on_error), classes={},
            published={"oIoU": 75.49, "mIoU": 65.79},
        ),
        Benchmark(
            name="isaid-semantic", task="semantic", data="iSAID", layout=_ISAID_LAYOUT, read=_read_isaid_files,
            classes=_THINGS, published={"mIoU": 64.72},
        ),
        Benchmark(
            name="potsdam", task="semantic", data="Potsdam", layout="`images/`, `labels/` (colours)",
            read=_read_potsdam_files, classes=_as_is(_LAND), published={"mF1": 91.80},
        ),
        Benchmark(
            name="vaihingen", task="semantic", data="Vaihingen (unseen)", layout="`images/`, `labels/` (colours)",
            read=_read_potsdam_files, classes=_as_is(_LAND), published={"mIoU": 46.0},
        ),
        Benchmark(
            name="deepglobe", task="semantic", data="DeepGlobe land cover (unseen)",
            layout="`images/`, `labels/` (colours)", read=_read_deepglobe, classes=_as_is(DEEPGLOBE),
            published={"mIoU": 60.5},
        ),
        Benchmark(
            name="rsvg", task="grounding", data="DIOR-RSVG test",
            layout="`Annotations/`, `JPEGImages/`, `test.txt`",
            read=lambda folder, on_error: read_rsvg(folder, "test", on_error=on_error), classes={},
            published={"AP50": 74.36, "mIoU": 65.07},
        ),
        Benchmark(
            name="dior-labels", task="multi-label", data="DIOR", layout=_DIOR_LAYOUT, read=_read_dior,
            classes=_as_is(DIOR), published={"accuracy": 94},
        ),
        Benchmark(
            name="dota-labels", task="multi-label", data="DOTA v2", layout=_DOTA_LAYOUT, read=_read_dota_files,
            classes=_benchmark_class_asked_as(DOTA), published={"accuracy": 95},
        ),
        Benchmark(
            name="dior-counting", task="counting", data="DIOR", layout=_COUNTS_LAYOUT, read=_read_count_files,
            classes=_benchmark_class_asked_as(DIOR_COUNTED), published={"accuracy": 62.0},
            prior=_benchmark_priors(DIOR_COUNTED, DIOR_PRIOR),
        ),
        Benchmark(
            name="dota-counting", task="counting", data="DOTA v2", layout=_COUNTS_LAYOUT, read=_read_count_files,
            classes=_benchmark_class_asked_as(_DOTA_COUNTED), published={"accuracy": 40.9},
            prior=_benchmark_priors(_DOTA_COUNTED, DOTA_PRIOR),
        ),
        Benchmark(
            name="dior", task="detection", data="DIOR", layout=_DIOR_LAYOUT, read=_read_dior, classes=_as_is(DIOR),
            published={"AP50": 62.74},
        ),
        Benchmark(
            name="isaid", task="detection", data="iSAID", layout=_ISAID_LAYOUT, read=_read_isaid_files, classes=_THINGS,
            published={"AP50": 34.41},
        ),
        Benchmark(
            name="dota", task="detection", data="DOTA v2", layout=_DOTA_LAYOUT, read=_read_dota_files,
            classes=_benchmark_class_asked_as(DOTA), published={"AP50": 20.17},
        ),
        Benchmark(
            name="dior-oriented", task="oriented", data="DIOR", layout=_DOTA_LAYOUT + " (DIOR-R as DOTA)",
            read=_read_dota_files, classes=_as_is(DIOR), published={"AP50": 55.22},
        ),
        Benchmark(
            name="isaid-oriented", task="oriented", data="iSAID", layout=_ISAID_LAYOUT, read=_read_isaid_files,
            classes=_THINGS, published={"AP50": 34.58},
        ),
        Benchmark(
            name="dota-oriented", task="oriented", data="DOTA v2", layout=_DOTA_LAYOUT, read=_read_dota_files,
            classes=_benchmark_class_asked_as(DOTA), published={"AP50": 18.21},
        ),
        Benchmark(
            name="ucm-captions", task="captioning", data="UCM-Captions test", layout="`dataset.json`, `images/`",
            read=lambda folder, on_error: read_captions(
                folder / "dataset.json", folder / "images", split="test", on_error=on_error
            ),
            classes=_as_is(UCM_CAPTIONS), published={"CIDEr-D": 12.370},
        ),
    )
}  # fmt: skip
"""By name; all figures in percent."""
