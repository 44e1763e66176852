import json
import random
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.words import Category, Vocabulary, auto_resolution, suggest, vocabulary
from remotesam_geo.words.categories import COLUMNS, read_table
from remotesam_geo.words.english import pluralize, spelling

CLASS_NAMES = json.loads((Path(__file__).parents[1] / "data" / "words" / "class_names.json").read_text())
KNOWN = vocabulary()
TABLES = sorted(
    table.name
    for table in files("remotesam_geo").joinpath("data", "vocabulary").iterdir()
    if table.name.endswith(".csv")
)
categories = st.sampled_from(list(KNOWN))


def table(name):
    return files("remotesam_geo").joinpath("data", "vocabulary", name).read_text("utf-8")


# The data


def test_it_has_about_a_thousand_categories_in_three_levels():
    levels = Counter(category.level for category in KNOWN)
    assert 1000 <= len(KNOWN) <= 1250
    assert set(levels) == {1, 2, 3}
    assert levels[1] == len(TABLES) == len(KNOWN.children())
    assert levels[1] < levels[2] < levels[3]


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_one_domain(name):
    rows = list(read_table(table(name)))
    assert [row.name for row in rows if row.level == 1] == [rows[0].name]
    assert len(rows) >= 20


def test_every_name_means_one_category():
    claims = {}
    for category in KNOWN:
        for name in (category.name, *category.synonyms):
            assert name == name.lower()
            assert claims.setdefault(spelling(name), category.name) == category.name
        written = [spelling(name) for name in (category.name, *category.synonyms)]
        assert len(written) == len(set(written)), f"{category.name} says a name twice"


def test_a_plural_is_given_only_where_the_rule_does_not_know_it():
    for name in TABLES:
        for line in table(name).splitlines()[1:]:
            singular, *_, given, _ = line.split(",")
            assert not given or given != pluralize(singular), f"{singular}: the plural is derived"


def test_plurals_find_their_category():
    lost = [c.name for c in KNOWN if KNOWN[c.plural] is not c]
    assert lost == ["person"], "only people are a category of their own"


def test_sizes_are_those_of_things_on_earth():
    for category in KNOWN:
        smallest, largest = category.size
        assert 0 < smallest <= largest, category.name
        assert 0.05 <= smallest <= 100_000, category.name
        assert largest <= 500_000, category.name
    # A part is not larger than what it is a kind of, give or take: tell slips of a power of ten.
    for category in KNOWN:
        if category.level == 3 and category.kind == KNOWN[category.parent].kind == "object":
            assert category.size[0] <= KNOWN[category.parent].size[1], category.name


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("car", 3, 6),
        ("tennis court", 18, 41),
        ("soccer field", 60, 126),
        ("runway", 500, 4500),
        ("shipping container", 6, 14),
        ("airliner", 27, 80),
        ("swimming pool", 3, 60),
        ("lane marking", 0.05, 0.6),
        ("container ship", 90, 400),
    ],
)
def test_sizes_agree_with_standards(name, smallest, largest):
    size = KNOWN[name].size
    assert smallest <= size[0] <= size[1] <= largest


# Looking up


@pytest.mark.parametrize("source", CLASS_NAMES)
def test_published_class_names_are_known(source):
    assert [name for name in CLASS_NAMES[source] if name not in KNOWN] == []


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("storagetank", "storage tank"),
        ("windmill", "wind turbine"),
        ("Expressway-toll-station", "toll plaza"),
        ("golffield", "golf course"),
        ("trainstation", "railway station"),
        ("baseball-diamond", "baseball field"),
        ("groundtrackfield", "athletics track"),
        ("soccer-ball-field", "soccer field"),
        ("denseresidential", "dense residential area"),
        ("transformer_station", "substation"),
        ("snowberg", "snow covered mountain"),
        ("bapsketball_court", "basketball court"),
        ("Sea & Lake", "sea"),
        ("Low Vegetation", "grass"),
        ("works", "factory"),
        ("harbours", "harbor"),
        ("Aeroplanes", "airplane"),
    ],
)
def test_other_names_find_the_category(published, name):
    assert KNOWN[published].name == name


@given(categories, st.sampled_from([" ", "-", "_", ""]), st.booleans())
def test_case_and_separators_do_not_matter(category, separator, upper):
    name = category.name.replace(" ", separator)
    assert KNOWN[name.upper() if upper else name] is category


@given(categories)
def test_path_and_children_agree(category):
    path = KNOWN.path(category.name)
    assert len(path) == category.level
    assert path[0] in KNOWN.children()
    for parent, child in pairwise(path):
        assert child in KNOWN.children(parent)


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match=r"'helicoptor' is no category.*'helicopter'"):
        KNOWN["helicoptor"]
    with pytest.raises(InputError, match=r"'xqzw' is no category of the vocabulary\.$"):
        KNOWN["xqzw"]
    assert KNOWN.get("xqzw") is None
    assert 3 not in KNOWN


# Suggesting


def slips(name):
    letters = "abcdefghijklmnopqrstuvwxyz"
    for i in range(len(name)):
        yield name[:i] + name[i + 1 :]
        yield name[:i] + name[i + 1 : i + 2] + name[i] + name[i + 2 :]
        yield from (name[:i] + letter + name[i + 1 :] for letter in letters)
        yield from (name[:i] + letter + name[i:] for letter in letters)


def test_single_slips_find_the_name():
    """Of a sample: nearly all among the suggestions, most of them first, most of them alone."""
    random.seed(20261120)
    asked = among = first = alone = 0
    for category in random.sample(list(KNOWN), 300):
        if len(category.name) < 5:
            continue
        typed = random.choice(list(slips(category.name)))  # noqa: S311 - no secret
        if typed in KNOWN:
            continue
        names = [KNOWN[name].name for name in suggest(typed)]
        asked += 1
        among += category.name in names
        first += names[:1] == [category.name]
        alone += set(names) == {category.name}
    assert asked > 200
    assert among >= 0.99 * asked
    assert first >= 0.97 * asked
    assert alone >= 0.9 * asked


def reference_distance(a, b):
    """Optimal string alignment, from its definition."""
    if not a or not b:
        return len(a) + len(b)
    options = [
        reference_distance(a[1:], b) + 1,
        reference_distance(a, b[1:]) + 1,
        reference_distance(a[1:], b[1:]) + (a[0] != b[0]),
    ]
    if len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0]:
        options.append(reference_distance(a[2:], b[2:]) + 1)
    return min(options)


@given(st.text("abc", min_size=1, max_size=5), st.text("abc", min_size=1, max_size=5))
def test_suggestions_are_those_within_one_slip(known, typed):
    words = Vocabulary([category(known)])
    near = {reference_distance(typed, name) for name in (known, pluralize(known))}
    assert (words.suggest(typed) == (known,)) == (min(near) <= 1)


# Resolution


def test_things_are_seen_at_24_to_450_pixels():
    """Where the sizes allow it, with the room that rounding needs."""
    checked = 0
    for c in KNOWN:
        fewest = 6 if c.kind == "linear" else 24
        smallest, largest = c.size
        metres = auto_resolution(c.name)
        if largest / smallest <= 450 / fewest / 1.7:
            checked += 1
            assert fewest <= smallest / metres, c.name
            assert largest / metres <= 450, c.name
        else:  # as many too few as too many
            lack, excess = fewest * metres / smallest, largest / metres / 450
            assert 1 / 1.75 < lack / excess < 1.75, c.name
    assert checked > 500


def test_resolutions_are_few():
    assert len({auto_resolution(category.name) for category in KNOWN}) < 40


@pytest.mark.parametrize(
    ("label", "like"),
    [
        ("the buildings with a red roof", "building"),
        ("large vehicles on the bridge", "large vehicle"),
        ("white storage-tanks", "storage tank"),
        ("airplane in the image", "airplane"),
    ],
)
def test_expressions_are_as_large_as_what_they_name(label, like):
    assert auto_resolution(label) == auto_resolution(like)


def test_nothing_known_is_at_no_resolution():
    assert auto_resolution("xqzw blorp") is None


def test_a_smaller_window_asks_for_coarser_pixels():
    assert auto_resolution("airport", 224) > auto_resolution("airport", 896)
    with pytest.raises(InputError, match="window=0 is not allowed"):
        auto_resolution("airport", 0)


# The checks


def category(name="ship", **changes):
    values = {"parent": None, "level": 1, "kind": "object", "size": (1.0, 2.0), "synonyms": ()}
    return Category(name=name, **{**values, "plural": pluralize(name), **changes})


def test_a_category_of_no_kind_cannot_be_made():
    with pytest.raises(InputError, match="kind='thing' is not allowed: use 'object', 'area' or"):
        category(kind="thing")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (category(size=(0.0, 2.0)), r"'ship' has the size \(0.0, 2.0\)"),
        (category(size=(3.0, 2.0)), "smallest <= largest"),
        (category(size=(1.0, float("inf"))), "size"),
        (category(size=(float("nan"), 2.0)), "size"),
        (category(parent="fleet", level=2), "before its parent 'fleet'"),
        (category(level=4), "level 4"),
        (category(synonyms=("big  ship",)), "'big  ship'"),
        (category(synonyms=("Vessel",)), "'Vessel'"),
        (category(synonyms=("",)), "''"),
        (category("lock"), "'lock' names both"),
        (category(synonyms=("padlock", "lo ck")), "'lo ck' names both 'ship' and 'lock'"),
    ],
)
def test_faults_of_the_data_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        Vocabulary([category("lock"), wrong])


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,kind\nship,object", "the columns are"),
        ("", "the columns are"),
        (HEADER + "\nship,,object,1,2,", "'ship,,object,1,2,' has 6 fields, not 7"),
        (HEADER + "\nship,,object,one,2,,", "'ship' has the sizes 'one' and '2'"),
    ],
)
def test_faults_of_a_table_are_named(text, message):
    with pytest.raises(InputError, match=message):
        list(read_table(text))


def test_nothing_is_read_before_the_first_question():
    code = """
import sys
import remotesam_geo.words as words
assert words.vocabulary.cache_info().currsize == 0
heavy = {"torch", "transformers", "numpy", "pandas", "rasterio", "xarray"} & set(sys.modules)
assert not heavy, heavy
assert words.vocabulary() is words.vocabulary()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
