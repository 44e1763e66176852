"""Captions: good English, the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError
from remotesam_geo.tasks import caption, detect

HERE = (90, 90)


def at(*places):
    return np.array(places, float)


def spread(n, seed=0):
    return np.random.default_rng(seed).uniform(0, 90, (n, 2))


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (1, "a ship."),
        (2, "two ships."),
        (3, "three ships."),
        (7, "seven ships."),
        (10, "ten ships."),
        (11, "several ships."),
        (20, "several ships."),
        (21, "many ships."),
        (5000, "many ships."),
    ],
)
def test_numbers(n, words):
    assert caption({"ship": spread(n)}, HERE).startswith(f"The picture shows {words}")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("airplane", "an airplane"),
        ("university", "a university"),
        ("unpaved road", "an unpaved road"),
        ("uninhabited island", "an uninhabited island"),
        ("unit", "a unit"),
        ("one-way road", "a one-way road"),
        ("eucalyptus tree", "a eucalyptus tree"),
        ("hour glass", "an hour glass"),
        ("house", "a house"),
        ("SUV", "an SUV"),
        ("RV park", "an RV park"),
        ("UFO", "a UFO"),
        ("TV mast", "a TV mast"),
        ("Airport", "an Airport"),
        ("oil tank", "an oil tank"),
        ("aircraft", "an aircraft"),
        ("cropland", "an area of cropland"),
        ("water", "a water area"),
        ("user's roof", "a user's roof"),
        ("urban park", "an urban park"),
        ("uranium mine", "a uranium mine"),
    ],
)
def test_articles(label, words):
    text = caption({label: at((45, 45))}, HERE)
    assert text == f"The picture shows {words}. It is in the centre."


def test_plurals():
    many = {name: spread(3) for name in ("ferry", "person", "aircraft", "cropland", "church")}
    text = caption(many, HERE)
    assert "three ferries, three people, three aircraft, three areas of cropland and three churches" in text


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (at((5, 5)), "It is in the upper left."),
        (at((45, 5)), "It is at the top."),
        (at((85, 85)), "It is in the lower right."),
        (at((5, 5), (10, 9)), "They are in the upper left."),
        (at((5, 5), (85, 45)), "They are in the upper left and on the right."),
        (at((5, 5), (45, 5), (85, 5)), "They are along the top."),
        (at((5, 5), (5, 45), (5, 85)), "They are along the left side."),
        (at((45, 5), (45, 45), (45, 85)), "They are down the middle."),
        (at((5, 5), (6, 5), (7, 5), (45, 45), (85, 5)), "They are mostly in the upper left."),
        (
            at((5, 5), (85, 5), (45, 45)),
            "They are in the upper left, in the upper right and in the centre.",
        ),
        (at((5, 5), (85, 5), (5, 85), (85, 85)), "They are spread over the picture."),
    ],
)
def test_places(places, words):
    assert caption({"ship": places}, HERE).endswith(words)


def test_several_labels():
    found = {"ship": at((5, 5), (6, 6)), "harbor": at((45, 45)), "crane": np.zeros((0, 2))}
    assert caption(found, HERE) == (
        "The picture shows two ships and a harbor. The ships are in the upper left and the harbor is in the centre."
    )
    found["crane"] = at((5, 5), (45, 45))
    assert caption(found, HERE) == (
        "The picture shows two ships, a harbor and two cranes. "
        "The ships are in the upper left; the harbor is in the centre; "
        "the cranes are in the upper left and in the centre."
    )


def test_nothing():
    assert caption({"ship": np.zeros((0, 2))}, HERE) == ("The picture shows nothing of what was asked for.")
    assert caption({}, HERE, subject="area") == "The area shows nothing of what was asked for."


@pytest.mark.parametrize(
    ("north", "words"),
    [
        (0, "in the north-east"),
        (90, "in the north-west"),
        (180, "in the south-west"),
        (270, "in the south-east"),
    ],
)
def test_compass(north, words):
    """North 90 degrees clockwise from the top: the right edge is north, the top is west."""
    assert words in caption({"ship": at((85, 5))}, HERE, north=north)


def test_a_grid_of_four():
    assert "in the upper left" in caption({"ship": at((40, 40))}, HERE, grid=2)
    assert "in the centre" in caption({"ship": at((40, 40))}, HERE, grid=3)
    assert "in the south-east" in caption({"ship": at((45, 45))}, HERE, grid=2, north=0)


@given(
    st.dictionaries(
        st.sampled_from(["ship", "airplane", "cropland", "ferry"]),
        st.lists(st.tuples(st.floats(0, 60), st.floats(0, 40)), max_size=25),
    ),
    st.sampled_from([2, 3]),
    st.sampled_from([None, 0, 30]),
)
def test_captions_are_sentences(objects, grid, north):
    found = {label: np.array(places).reshape(-1, 2) for label, places in objects.items()}
    text = caption(found, (40, 60), grid=grid, north=north)
    assert text == caption(dict(found), (40, 60), grid=grid, north=north)
    sentences = text.split(". ")
    assert all(sentence[0].isupper() for sentence in sentences)
    assert text.endswith(".")
    assert len(sentences) == (2 if any(map(len, found.values())) else 1)
    assert "  " not in text
    assert ("north" in text or "south" in text) <= (north is not None)
    for label, places in found.items():
        assert (label[:4] in text) == bool(len(places))


def test_detections_are_captioned():
    prob = np.zeros((30, 60), np.float32)
    prob[2:5, 2:6] = prob[2:5, 50:55] = 1
    objects = detect(prob)
    assert caption({"ship": objects.centres}, prob.shape) == (
        "The picture shows two ships. They are in the upper left and in the upper right."
    )


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: caption({"ship": at((5, 5))}, HERE, grid=4), "grid=4"),
        (lambda: caption({"ship": at((5, 5))}, (0, 4)), r"shape is \(0, 4\)"),
        (lambda: caption({"ship": np.zeros((1, 3))}, HERE), r"'ship'.*\(1, 3\)"),
        (lambda: caption({"ship": at((5, np.nan))}, HERE), "finite"),
        (lambda: caption({"ship": at((5, 5))}, HERE, north=np.inf), "north=inf"),
    ],
)
def test_mistakes(mistake, message):
    with pytest.raises(InputError, match=message):
        mistake()
