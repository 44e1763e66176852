"""Pictures show the features where they are."""

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from remotesam_geo.errors import InputError
from remotesam_geo.plotting import plot

from .test_remotesam import BAR, DISC, GREEN, MODEL, RED, scene_of


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())[..., :3]


def test_features_are_drawn_over_the_scene_with_a_legend():
    scene = scene_of([(BAR, RED), (DISC, GREEN)])
    found = MODEL.segment(scene, ["red", "green"])
    ax = plot(scene, found, title="two things", scores=True)
    assert ax.get_title() == "two things"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["red (1)", "green (1)"]
    texts = {text.get_text() for text in ax.texts}
    assert {"N", "50 m", "1.00"} <= texts
    path = next(iter(ax.collections)).get_paths()[0]
    box = path.get_extents()
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((20, 30, 280, 50))
    picture = drawn(ax).reshape(-1, 3).astype(int)
    assert (
        np.abs(picture - RED).sum(axis=1) < 60
    ).sum() > 1000  # the bar itself, seen through its outline


def test_nothing_found_is_still_a_picture():
    scene = scene_of([(DISC, GREEN)])
    ax = plot(scene, MODEL.segment(scene, "red"))
    assert ax.get_legend() is None
    assert (np.abs(drawn(ax).astype(int) - GREEN).sum(axis=-1) < 60).any()


def test_a_large_scene_is_averaged_to_what_a_picture_can_show():
    scene = scene_of([(BAR, RED)], size=2000)
    ax = plot(scene, MODEL.segment(scene, "red", progress=False))
    assert max(ax.images[0].get_array().shape) <= 1210


def test_a_time_that_is_not_there_is_refused():
    scene = scene_of([(DISC, GREEN)])
    with pytest.raises(InputError, match="time is 3"):
        plot(scene, MODEL.segment(scene, "red"), time=3)
