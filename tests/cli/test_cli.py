"""The command line as its users meet it: help, a success and mistakes of each command."""

import json

import geopandas as gpd
import pytest
import shapely

from remotesam_geo.cli import main
from remotesam_geo.learning.synthetic import World

COMMANDS = (
    "search", "segment", "refer", "detect", "ground", "label", "classify", "count", "caption", "change", "map",
    "status", "answer", "models", "convert", "train", "evaluate", "engine", "demo", "doctor",
)  # fmt: skip
WORLD = World(22)
GRID = WORLD.geobox("EPSG:32632", resolution=0.4, shape=(256, 256))


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return str(WORLD.write(tmp_path_factory.mktemp("scene") / "scene.tif", GRID))


@pytest.fixture
def run(capsys):
    def command(*words):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage" in out or "usage" in out


def test_the_commands_are_all_there(run):
    _, out, _ = run("--help")
    assert all(command in out for command in COMMANDS)


def test_features_are_written_and_counted(run, raster, tmp_path):
    out = tmp_path / "found.parquet"
    code, said, told = run(
        "detect",
        raster,
        "building",
        "tree",
        "--model",
        "tiny",
        "--threshold",
        0.2,
        "--out",
        out,
        "--json",
    )
    table = gpd.read_parquet(out)
    assert code == (0 if len(table) else 3)
    assert json.loads(said)["rows"] == len(table)
    assert str(out) in told
    assert table.crs == "EPSG:32632"


def test_zones_keep_their_rows(run, raster, tmp_path):
    left, bottom, right, top = GRID.boundingbox.bbox
    middle = (left + right) / 2
    zones = gpd.GeoDataFrame(
        {"name": ["west", "east"]},
        geometry=[shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)],
        crs="EPSG:32632",
    )
    zones.to_file(tmp_path / "zones.gpkg")
    code, _, _ = run(
        "count",
        raster,
        "tree",
        "--model",
        "tiny",
        "--threshold",
        0.05,
        "--zones",
        tmp_path / "zones.gpkg",
        "--out",
        tmp_path / "out.gpkg",
    )
    assert code in (0, 3)
    back = gpd.read_file(tmp_path / "out.gpkg")
    assert back.name.tolist() == ["west", "east"]


def test_labels_for_free_expressions(run, raster):
    code, out, _ = run(
        "segment",
        raster,
        "leaf=the green tree",
        "leaf=tree in the image",
        "--model",
        "tiny",
        "--json",
        "--threshold",
        0.05,
    )
    assert code in (0, 3)
    assert set(json.loads(out)["by_label"]) <= {"leaf"}


@pytest.mark.parametrize("command", ["segment", "detect", "count", "label", "caption", "ground"])
def test_mistakes_of_the_questions(run, command, raster):
    code, _, err = run(command, "no-such.tif", "ship", "--model", "tiny")
    assert code == 1
    assert "no-such.tif" in err
    code, _, err = run(command, raster, "ship", "--colour", "red")
    assert code == 2
    assert "--colour" in err
    code, _, err = run(command, raster, "", "--model", "tiny")
    assert code == 1
    assert "no word" in err


def test_nothing_found_says_so(run, raster):
    code, _, err = run("detect", raster, "zebra", "--model", "tiny")
    assert code == 3
    assert "nothing found: zebra" in err


def test_a_missing_model_says_what_to_fetch(run, raster, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    code, _, err = run("detect", raster, "ship", "--model", tmp_path / "weights.pth")
    assert code == 1
    assert "weights.pth" in err


def test_a_search_over_a_local_catalogue(run, tmp_path):
    from remotesam_geo.demo import write_catalogue

    catalogue, _, _ = write_catalogue(tmp_path / "catalogue")
    code, out, _ = run(
        "search",
        catalogue,
        "--collection",
        "procedural",
        "--json",
        "--out",
        tmp_path / "items.json",
    )
    assert code == 0
    assert len(json.loads(out)["items"]) == 2
    code, out, _ = run("search", catalogue)
    assert "procedural-west" in out
    code, _, err = run("search", catalogue, "--bbox", 100, 10, 101, 11)
    assert code == 3
    assert "nothing found" in err
    code, _, err = run("search", tmp_path / "nowhere.json")
    assert code == 1
    assert "nowhere.json" in err
    code, _, err = run("search", catalogue, "--bbox", 1, 2, 3)
    assert code == 2
    code, _, _ = run(
        "segment",
        tmp_path / "items.json",
        "zebra",
        "--model",
        "tiny",
        "--load",
        '{"mosaic": "first"}',
    )
    assert code == 3
    code, _, err = run("segment", tmp_path / "items.json", "zebra", "--model", "tiny", "--load", "mosaic")
    assert code == 1
    assert "no JSON" in err


def test_a_job_from_options_and_from_a_file(run, raster, tmp_path):
    folder = tmp_path / "job"
    code, out, _ = run("map", folder, raster, "tree", "--model", "tiny", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["windows"] == 1
    code, out, _ = run("map", folder, raster, "tree", "--model", "tiny")
    assert code == 0
    code, out, _ = run("map", folder, "--add", "building", "--json")
    assert code == 0
    assert set(json.loads(out)["status"]) == {"tree", "building"}
    code, out, _ = run("status", folder, "--json")
    assert json.loads(out)["failures"] == []
    code, _, _ = run("answer", folder, "detect", "--threshold", 0.1, "--out", tmp_path / "trees.parquet")
    assert code in (0, 3)
    assert set(gpd.read_parquet(tmp_path / "trees.parquet").label) <= {"tree", "building"}
    config = tmp_path / "job.yaml"
    config.write_text(f"source: {raster}\nprompts: [tree]\nmodel: tiny\n")
    code, _, _ = run("map", tmp_path / "other", "--config", config)
    assert code == 0


def test_mistakes_with_jobs(run, raster, tmp_path):
    code, _, err = run("status", tmp_path / "none")
    assert (code, "holds no job" in err) == (1, True)
    code, _, err = run("map", tmp_path / "job", raster)
    assert (code, "what to look for" in err) == (1, True)
    config = tmp_path / "job.yaml"
    config.write_text("sauce: scene.tif\nprompts: [tree]\n")
    code, _, err = run("map", tmp_path / "job", "--config", config)
    assert (code, "sauce" in err) == (1, True)
    config.write_text("prompts: !!python/object/apply:os.system ['true']\n")
    code, _, err = run("map", tmp_path / "job", "--config", config)
    assert (code, "cannot read" in err) == (1, True)
    code, _, err = run("map", tmp_path / "job", raster, "tree", "--model", "tiny", "--scheduler", "nowhere:1")
    assert code == 1
    code, _, err = run("answer", tmp_path / "job", "count")
    assert (code, "VERB='count' is not allowed" in err) == (1, True)
    assert not (tmp_path / "job").exists()


def test_a_model_folder_is_written(run, tmp_path):
    from remotesam_geo.model.weights import locate

    folder = locate("tiny").folder
    code, _, err = run("convert", folder, tmp_path / "copy", "--json")
    assert code == 0
    code, _, err = run("convert", tmp_path / "none.pth", tmp_path / "other")
    assert (code, "none.pth" in err) == (1, True)
    code, _, err = run("convert", folder, tmp_path / "copy")
    assert code == 1


def test_the_models_are_listed(run):
    code, out, _ = run("models", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert {"released", "tiny", "clipseg", "grounding-dino"} <= set(rows)
    assert rows["tiny"]["here"] is True
    assert rows["clipseg"]["network"] == "CIDAS/clipseg-rd64-refined"
    assert rows["grounding-dino"]["download_mb"] == 689 + 156
    code, out, _ = run("models")
    assert code == 0
    assert "Apache-2.0" in out


def test_the_doctor_tells_what_a_bug_report_needs(run):
    code, out, _ = run("doctor", "--json", "--model", "tiny")
    report = json.loads(out)
    assert code == 0
    assert report["torch"]
    assert report["model"].startswith("found")
    code, out, _ = run("doctor", "--model", "nowhere")
    assert "model: not here" in out


def test_unknown_commands_and_the_version(run):
    code, _, err = run("detct")
    assert (code, "detct" in err) == (2, True)
    code, out, _ = run("--version")
    assert (code, out.count(".") >= 2) == (0, True)
