"""Grid, bands, types and nodata of `load` equal those of odc-stac, or the difference is listed in docs/odc-stac.md."""

import re
import warnings
from collections import Counter
from pathlib import Path

import odc.stac
import pytest

from remotesam_geo.scenes import select
from tests.scenes.odc_cases import HEADER, compare, material
from tests.scenes.odc_kinds import KINDS, RGB

COMPARED = "0.5.3"
pytestmark = pytest.mark.skipif(
    odc.stac.__version__ != COMPARED, reason=f"the differences listed are those of odc-stac {COMPARED}"
)

PAGE = Path(__file__).parents[2] / "docs/odc-stac.md"
NONE = "no projection"
PLACE = "a projection that is wrong"
FIELDS = "fields that odc-stac does not read"
TYPES = "types that the item does not say"
MANY = "several bands in an asset"
NAMES = "one name, several assets"
EXTRA = "an asset that is not wanted"
GRID = "pixels off the lattice"
NORTH = "rotated, or rows that run north"
UNITS = "another CRS, without a resolution"
TIES = "resolutions that occur as often"
BLOCKS = "coarser pixels"
EDGES = "areas in degrees"
TURN = "the antimeridian"
SCALES = "several years"
LACKS = "items that lack a band"

# Of the kinds of items that are not named here everything is equal.
DIFFERENT = {
    "the asset says that it has no CRS": {"grid": NONE},
    "proj:bbox in place of a transform": {"odc-stac fails": FIELDS},
    "no projection": {"odc-stac fails": NONE},
    "no shape": {"odc-stac fails": NONE},
    "no list of extensions": {"odc-stac fails": FIELDS},
    "code as a float": {"odc-stac fails": FIELDS},
    "unknown code": {"odc-stac fails": PLACE},
    "wrong zone": {"grid": PLACE},
    "rows run north": {"grid": NORTH},
    "rotated": {"grid": NORTH},
    "an offset of a third of a pixel": {"grid": GRID},
    "two resolutions, as often, coarse first": {"grid": TIES},
    "another CRS": {"grid": UNITS},
    "degrees": {"grid": UNITS},
    "coarser, and an area": {"grid": BLOCKS},
    "a large area": {"grid": EDGES},
    "degrees across the antimeridian": {"grid": TURN},
    "several years of Sentinel-2": {"types": SCALES, "nodata": SCALES},
    "types that differ between items": {"types": SCALES},
    "no types": {"types": TYPES, "nodata": TYPES},
    "one description of three bands": {"odc-stac fails": MANY},
    "bands of STAC 1.1": {"odc-stac fails": FIELDS},
    "bands of STAC 1.1, type in the asset": {"odc-stac fails": FIELDS},
    "bands as numbers": {"odc-stac fails": FIELDS},
    "complex numbers": {"odc-stac fails": TYPES},
    "a second item lacks a band": {"grid": LACKS},
    "a malformed asset beside": {"odc-stac fails": EXTRA},
}


@pytest.fixture
def asked(monkeypatch):
    """Files whose headers `load` would read; all have the same."""
    found = []
    monkeypatch.setattr(select, "inspect", lambda href, **_: found.append(href) or HEADER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield found


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_items(name, asked):
    docs, options = KINDS[name]()
    found = compare(docs, RGB, options.pop("odc", None), **options)
    assert found.keys() == DIFFERENT.get(name, {}).keys(), found
    if not found:
        assert not asked, "equal, without opening a file"


def reason(what: str, fact, item, asked) -> str:
    """Why a recorded item is planned differently: only where the item is of the kind that is listed."""
    if what == "odc-stac fails":
        if "auto-guess" in fact:
            return NONE if asked else FIELDS
        return {"KeyError": MANY, "ProjError": PLACE}[fact.partition(":")[0]]
    if what == "load fails":
        assert "has 4 bands, no band" in fact  # so says the header that stands in
        return MANY
    if what == "grid":
        assert item["id"] == "proj-example"  # its bbox lies in another zone
        return PLACE
    name, theirs, own = fact
    if what == "bands":
        assert theirs == (name, 1) or own is not None, fact
        return MANY if own is None else NAMES
    described = item["assets"].get(name.rpartition(".")[0] or name, {})
    key = "data_type" if what == "types" else "nodata"
    assert theirs == ("float32" if what == "types" else None), fact
    assert f"'{key}'" not in str(described), fact
    return TYPES


def test_all_recorded_items(asked):
    found = Counter()
    for _, item in material():
        asked.clear()
        why = set()
        for what, facts in compare([item]).items():
            why |= {reason(what, fact, item, asked) for fact in (facts if isinstance(facts, list) else [facts])}
        found.update(why or {"equal"})
    assert sum(1 for _ in material()) == 297
    assert found == FOUND


FOUND = {NONE: 178, MANY: 67, TYPES: 32, NAMES: 18, FIELDS: 2, PLACE: 2, "equal": 29}  # an item may have several


def test_the_page_lists_every_reason():
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text().partition("## Where `load`")[2], re.MULTILINE
    )
    listed = [row.strip() for row in rows if row.strip() not in {"items", "---"}]
    used = {why for reasons in DIFFERENT.values() for why in reasons.values()} | FOUND.keys() - {"equal"}
    assert sorted(listed) == sorted(used)
