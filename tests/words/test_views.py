import pytest

from remotesam_geo.words import CLASS_TEMPLATE, view_words, vocabulary


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("the ship on the left", ("left",)),
        ("The LARGEST building", ("LARGEST",)),
        ("the smallest of the storage tanks", ("smallest",)),
        ("the airplane at the upper right corner", ("upper right",)),
        ("the rightmost car", ("rightmost",)),
        ("the northernmost house", ("northernmost",)),
        ("a lake in the centre", ("in the centre",)),
        ("a lake in the middle of the image", ("in the middle of the image",)),
        ("the car in the corner", ("in the corner",)),
        ("a road at the top", ("at the top",)),
        ("a road along the edge of the picture", ("along the edge of the picture",)),
        ("the bridge in the lower part of the image", ("lower part",)),
        ("the upper bridge", ("the upper",)),
        ("the house closest to the river", ("closest",)),
        ("the second largest ship on the bottom-left", ("largest", "bottom-left")),
    ],
)
def test_words_of_a_view(expression, found):
    assert view_words(expression) == found


@pytest.mark.parametrize(
    "expression",
    [
        "the house with a flat top",
        "the tower on the top of the hill",
        "cars on the rooftop",
        "table mountain with a flat top",
        "the community center",
        "the city centre",
        "a center pivot field",
        "the cars in the center of the roundabout",
        "the corner of the field",
        "a street corner",
        "the middle school",
        "the upper deck of the bridge",
        "the lower slopes",
        "the upper part of the slope",
        "a cleared right of way",
        "a building with right angles",
        "the left turn lane",
        "land left fallow",
        "a large ship",
        "the north side of the river",
        "a copyright notice",
        "cleft rock",
        "the edge of the forest",
    ],
)
def test_words_that_hold_on_a_map(expression):
    assert view_words(expression) == ()


def test_no_class_of_the_vocabulary_depends_on_the_view():
    names = [name for category in vocabulary() for name in (category.name, *category.synonyms)]
    asked = [CLASS_TEMPLATE.replace("{name}", name) for name in names]
    assert [text for text in asked if view_words(text)] == []
