"""`remotesam-geo engine` as its users meet it: scenes with labels, pictures, the world; and mistakes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from remotesam_geo.cli import main
from remotesam_geo.learning.datasets import TripletStore
from remotesam_geo.learning.synthetic import World

WORLD = World(22)
GRID = WORLD.geobox("EPSG:32632", resolution=0.4, shape=(256, 256))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A raster, and its features in another CRS."""
    folder = tmp_path_factory.mktemp("place")
    raster = WORLD.write(folder / "scene.tif", GRID)
    labels = folder / "labels.gpkg"
    WORLD.truth(GRID)[["label", "colour", "geometry"]].to_crs("EPSG:4326").to_file(labels)
    return raster, labels


@pytest.fixture
def run(capsys):
    def command(*words):
        code = main(["engine", *(str(word) for word in words)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return command


def test_triplets_of_a_scene_and_its_labels(run, place, tmp_path):
    raster, labels = place
    folder, page = tmp_path / "triplets", tmp_path / "page.png"
    asked = (folder, raster, "--labels", labels, "--size", 128, "--page", page, "--json")
    code, out, err = run(*asked)
    told, store = json.loads(out), TripletStore(folder)
    assert code == 0
    assert told["triplets"] == len(store) == sum(told["report"]["kept"].values()) > 20
    assert set(told["kinds"]) == {"one-to-one", "one-to-many", "one-to-zero"}
    assert told["report"]["pictures"] == told["statistics"]["pictures"] == 4
    assert store[0].picture.name.startswith("scene/")
    assert store[0].picture.place.crs == "EPSG:32632"
    with Image.open(page) as drawn:
        assert drawn.size[0] == 1200
    assert str(page) in err
    code, again, _ = run(*asked)
    assert (code, json.loads(again)) == (0, told)
    code, out, err = run(*asked[:-1])
    assert (code, "one-to-many class" in out, "near-duplicate" in out) == (0, True, True)
    assert f"{len(store):,} triplets" in err


def test_a_folder_is_not_gone_on_with_over_other_pictures(run, place, tmp_path):
    raster, labels = place
    code, _, _ = run(tmp_path, raster, "--labels", labels, "--size", 128)
    assert code == 0
    code, _, err = run(tmp_path, raster, "--labels", labels, "--size", 64)
    assert (code, "was begun with" in err) == (1, True)
    code, _, err = run(tmp_path, raster, "--labels", labels, "--size", 128, "--absent", 1)
    assert (code, "was begun with" in err) == (1, True)


def test_a_killed_run_goes_on(run, place, tmp_path):
    raster, labels = place
    asked = (raster, "--labels", labels, "--size", 128, "--json")
    _, straight, _ = run(tmp_path / "straight", *asked)
    shutil.copytree(tmp_path / "straight" / "images", tmp_path / "cut" / "images")
    journal = (tmp_path / "straight" / "journal.jsonl").read_bytes()
    (tmp_path / "cut" / "journal.jsonl").write_bytes(journal[: len(journal) // 2])
    code, out, _ = run(tmp_path / "cut", *asked)
    assert code == 0
    assert json.loads(out)["report"] == json.loads(straight)["report"]
    assert (tmp_path / "cut" / "journal.jsonl").read_bytes() == journal


def test_the_procedural_world_and_more_of_it_later(run, tmp_path):
    asked = ("--size", 96, "--json", "--foreign", 0)
    code, out, _ = run(tmp_path, "--world", 2, *asked)
    first = json.loads(out)
    assert (code, first["report"]["pictures"]) == (0, 2)
    code, out, _ = run(tmp_path, "--world", 3, *asked)
    assert (code, json.loads(out)["report"]["pictures"]) == (0, 3)
    assert json.loads(out)["triplets"] == len(TripletStore(tmp_path)) > first["triplets"]
    assert {t.picture.name for t in TripletStore(tmp_path)} == {"world-0", "world-1", "world-2"}


def test_a_folder_of_pictures_with_a_coco_file(run, tmp_path):
    rgb = np.full((80, 120, 3), 120, np.uint8)
    rgb[10:30, 10:40] = (200, 30, 30)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(rgb).save(pictures / "a.png")
    things = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 30, 20],
            "area": 600,
            "iscrowd": 0,
        }
    ]
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 120, "height": 80}],
        "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "dam"}],
        "annotations": things,
    }
    labels = tmp_path / "instances.json"
    labels.write_text(json.dumps(coco))
    asked = (pictures, "--labels", labels, "--foreign", 0, "--json")
    code, out, _ = run(tmp_path / "drawn", *asked, "--rectangles")
    assert code == 0
    assert json.loads(out)["kinds"] == {"one-to-many": 1, "one-to-zero": 1}
    code, out, err = run(tmp_path / "boxes", *asked)
    told = json.loads(out)
    assert told["report"]["dropped"] == {"thing: no mask": 1}
    assert set(told["kinds"]) == {"one-to-zero"}
    labels.write_text("{}")
    code, _, err = run(tmp_path / "none", *asked)
    assert (code, "no categories" in err) == (1, True)


def test_labels_that_lie_elsewhere_find_nothing(run, place, tmp_path):
    raster, _ = place
    away = WORLD.truth(GRID)[["label", "geometry"]].translate(50_000)
    frame = WORLD.truth(GRID)[["label", "geometry"]].set_geometry(away)
    frame.to_parquet(tmp_path / "away.parquet")
    code, _, err = run(tmp_path / "out", raster, "--labels", tmp_path / "away.parquet", "--size", 128)
    assert (code, "nothing found" in err) == (3, True)


def test_mistakes(run, place, tmp_path):
    raster, labels = place
    out = tmp_path / "out"
    for words, code, said in [
        ((out,), 1, "nothing to ask of"),
        ((out, raster), 1, "--labels is missing"),
        ((out, "no-such.tif", "--labels", labels), 1, "no-such.tif"),
        ((out, raster, "--labels", tmp_path / "none.gpkg"), 1, "none.gpkg"),
        ((out, raster, "--labels", labels, "--label", "class"), 1, "no column 'class'"),
        ((out, raster, "--labels", labels, "--color", "red"), 2, "--color"),
        ((out, raster, "--labels", labels, "--colours", "red"), 2, "measured"),
        ((out, raster, "--labels", labels, "--class", "zebra", "--absent", -1), 1, "--absent -1"),
        ((out, raster, "--labels", labels, "--page", tmp_path / "page.txt"), 1, "page.txt"),
        ((out, "--world", 3, "--page", tmp_path / "no" / "page.png"), 1, "no folder"),
        ((out, raster, "--world", 3), 1, "not both"),
        ((out, "--world", 0), 1, "--world 0"),
        ((out, tmp_path, "--labels", labels), 1, "COCO"),
    ]:
        got, _, err = run(*words)
        assert (got, said in err) == (code, True), (words, err)
        assert not out.exists()


def test_labels_without_any_class_are_nothing_to_ask_for(run, place, tmp_path):
    raster, _ = place
    frame = WORLD.truth(GRID)[["label", "geometry"]].assign(label=None)
    frame.to_parquet(tmp_path / "blank.parquet")
    code, _, err = run(tmp_path / "out", raster, "--labels", tmp_path / "blank.parquet")
    assert (code, "nothing to ask for" in err) == (1, True)
