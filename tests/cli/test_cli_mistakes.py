"""Every command: its help, one success, and three mistakes, from one table that a new command must enter."""

import functools

import geopandas as gpd
import pytest
import shapely
import typer

from remotesam_geo.cli import app, main
from remotesam_geo.cli import verb_commands as verbs
from remotesam_geo.learning.synthetic import World
from tests.job.job_folder import make_job, write_raster

WORLD = World(22)
TINY = ["--model", "tiny"]
ODD = "--colour"
ELSEWHERE = ["--bbox", "100", "10", "101", "11"]


def verb(*success, nothing=3):
    """A verb: a raster that is not there, and something that no raster here shows."""
    return {
        "success": ["{raster}", *(success or ["tree"]), *TINY, "--threshold", "0.05"],
        "mistakes": [
            (1, ["{missing}.tif", "tree", *TINY], "missing.tif"),
            (2, ["{raster}", "tree", ODD, "red"], ODD),
            (3, ["{raster}", "zebra", *TINY], "nothing found")
            if nothing == 3
            else (1, ["{raster}", "", *TINY], "no word"),
        ],
    }  # fmt: skip


def passed_on(success, *mistakes):
    """A command of another module, whose work its own tests do."""
    return {"success": success, "module": True, "mistakes": list(mistakes)}


CASES = {
    "search": {
        "success": ["{catalogue}"],
        "mistakes": [
            (1, ["{missing}.json"], "missing.json"),
            (2, ["{catalogue}", ODD, "red"], ODD),
            (3, ["{catalogue}", *ELSEWHERE], "nothing found"),
        ],
    },
    "segment": verb(),
    "refer": verb("the green tree"),
    "detect": verb(),
    "ground": verb("the green tree"),
    "label": verb(),
    "classify": verb(nothing=1),  # each zone has its one label
    "count": verb(),
    "caption": verb(nothing=1),  # there is always a sentence
    "change": {
        "success": ["{times}"],
        "mistakes": [
            (1, ["{missing}.gpkg"], "missing.gpkg"),
            (2, ["{times}", ODD, "red"], ODD),
            (3, ["{empty}"], "nothing found"),
        ],
    },
    "map": {
        "success": ["{new}", "{raster}", "tree", *TINY, "--dry-run"],
        "mistakes": [
            (1, ["{new}", "{missing}.tif", "tree", *TINY], "missing.tif"),
            (2, ["{new}", "{raster}", "tree", ODD, "red"], ODD),
            (1, ["{new}", "{raster}", *TINY], "what to look for"),
        ],
    },
    "status": {
        "success": ["{job}"],
        "mistakes": [
            (1, ["{missing}"], "holds no job"),
            (2, ["{job}", ODD], ODD),
            (1, ["{raster}"], "scene.tif"),
        ],
    },
    "answer": {
        "success": ["{job}"],
        "mistakes": [
            (1, ["{missing}"], "holds no job"),
            (2, ["{job}", ODD], ODD),
            (3, ["{job}", "--threshold", "1"], "nothing found"),
        ],
    },
    "convert": {
        "success": ["tiny", "{new}"],
        "mistakes": [
            (1, ["{missing}.pth", "{new}"], "missing.pth"),
            (2, ["tiny", "{new}", ODD], ODD),
            (2, ["tiny"], "folder"),
        ],
    },
    "engine": {
        "success": ["{new}", "--world", "1"],
        "mistakes": [
            (1, ["{new}", "{missing}.tif", "--labels", "{times}"], "missing.tif"),
            (2, ["{new}", "--world", "1", ODD], ODD),
            (1, ["{new}"], "error"),
        ],
    },
    "train": passed_on(
        ["{new}"],
        (2, [], "folder"),
        (2, ["{new}", ODD], ODD),
        (2, ["{new}", "--steps", "many"], "--steps"),
        (2, ["{new}", "--freeze", "text_encoder"], "--freeze has no effect without --data"),
        (2, ["{new}", "--data", "{new}", "--pool", "9"], "--pool has no effect with --data"),
        (1, ["{new}", "--from", "{missing}"], "missing"),
        (1, ["{new}", "--pool", "2000000"], "pool=2000000"),
        (1, ["{new}", "--data", "{missing}"], "missing/triplets.json"),
        (1, ["{raster}", "--steps", "1", "--pool", "1"], "is a file: give a folder"),
        (1, ["{new}", "--learning-rate", "0"], "learning_rate=0"),
        *((2, ["{new}", f"--{name}", "0"], f"--{name}") for name in (
            "steps", "pictures", "questions", "threads", "pool"
        )),
        *((2, ["{new}", f"--{name}", "-1"], f"--{name}") for name in (
            "seed", "workers", "cooldown", "visual-steps", "learning-rate"
        )),
        *((2, ["{new}", "--data", "{new}", f"--{name}", "-1"], f"--{name}") for name in (
            "held-out", "square", "accumulate", "adapters", "patience", "every"
        )),
        (2, ["{new}", "--data", "{new}", "--held-out", "1.5"], "--held-out"),
    ),
    "evaluate": passed_on(
        None,  # tests/learning/evaluation runs it
        (2, ["guessing", "{new}"], "'guessing'"),
        (2, ["join", "{new}", "--skip"], "--skip has no effect on join"),
        (1, ["detection", "{missing}"], "missing' is no folder"),
        (1, ["detection", "{job}", "--against", "{missing}.json"], "missing.json holds no report"),
        (1, ["detection", "{job}", "--model", "oracle"], "job/annotations.json"),
        (2, ["detection", "{job}", "--cases", "-1"], "--cases"),
        (2, ["detection", "{job}", "--cases", "3"], "--cases 3 needs a folder to draw into: give --out"),
        (2, ["detection", "{job}", "--part", "2", "2"], "--part 2 2 is not allowed"),
        (2, ["detection", "{job}", "--part", "0", "0"], "--part 0 0 is not allowed"),
        (2, ["detection", "{job}", "--threshold", "1.5"], "--threshold"),
        (2, ["detection", "{job}", "--out", "{raster}"], "is a file: give a folder"),
        (2, ["detection", "{job}", "--sweep", "-1"], "--sweep"),
        (2, ["multi-label", "{job}", "--balances", "2"], "--balances"),
        (2, ["detection", "{job}", "--model", "oracle", "--contours", "published"], "--contours oracle"),
        (2, ["detection", "{job}", "--contours", "oracle"], "--model oracle"),
        (2, ["detection", "{new}", ODD], ODD),
        (2, [], "WHAT"),
    ),
    "demo": passed_on(
        ["--out", "{new}"],
        (1, ["--out", "{raster}"], "scene.tif"),
        (2, [ODD], ODD),
        (2, ["--out"], "--out"),
    ),
    "models": {
        "success": ["--json"],
        "mistakes": [(2, [ODD], ODD), (2, ["more"], "more"), (2, ["--json", "more"], "more")],
    },
    "doctor": {
        "success": TINY,
        "mistakes": [
            (0, ["--model", "{missing}.pth"], ""),  # it tells on stdout what is missing
            (2, [ODD], ODD),
            (2, ["more"], "more"),
        ],
    },
}  # fmt: skip
opened_once = functools.cache(verbs.opened_model)
ALL = [(name, case) for name, cases in CASES.items() for case in cases["mistakes"]]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    from remotesam_geo.demo import write_catalogue

    folder = tmp_path_factory.mktemp("places")
    grid = WORLD.geobox("EPSG:32632", resolution=0.4, shape=(256, 256))
    square = {"label": ["tree"], "time": ["2024-01-01"], "score": [0.9], "resolution": [0.4]}
    times = gpd.GeoDataFrame(
        {name: value * 2 for name, value in square.items()} | {"time": ["2024-01-01", "2025-01-01"]},
        geometry=[shapely.box(500000, 5000000, 500010, 5000010)] * 2,
        crs="EPSG:32632",
    )  # fmt: skip
    times["time"] = times["time"].astype("datetime64[ns]")
    times.to_parquet(folder / "times.parquet")
    times.iloc[:0].to_parquet(folder / "empty.parquet")
    make_job(folder / "job", write_raster(folder / "blobs.tif")).run(progress=False)
    return {
        "raster": WORLD.write(folder / "scene.tif", grid),
        "catalogue": write_catalogue(folder / "catalogue")[0],
        "times": folder / "times.parquet",
        "empty": folder / "empty.parquet",
        "job": folder / "job",
        "missing": folder / "missing",
    }


@pytest.fixture
def run(places, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(verbs, "opened_model", opened_once)

    def command(name, words):
        code = main([name, *(word.format(**places, new=tmp_path / "new") for word in words)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return command


def test_every_command_has_its_cases():
    commands = typer.main.get_command(app).commands
    assert set(commands) == set(CASES)
    assert all(len(cases["mistakes"]) >= 3 for cases in CASES.values())


@pytest.mark.parametrize("name", CASES)
def test_help(run, name):
    code, out, err = run(name, ["--help"])
    assert (code, err) == (0, "")
    assert "usage" in out.lower()
    assert "-h" in out


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name]["success"]])
def test_a_success(run, name, monkeypatch):
    monkeypatch.setattr("remotesam_geo.demo.main", lambda *_: None)
    monkeypatch.setattr("remotesam_geo.cli.training_commands._train_tiny", lambda *_, **__: None)
    code, out, err = run(name, CASES[name]["success"])
    assert code == 0, err
    assert out or CASES[name].get("module")


@pytest.mark.parametrize(("name", "case"), ALL)
def test_a_mistake_is_one_clear_line(run, name, case):
    code, words, told = case
    got, _, err = run(name, words)
    assert got == code, err
    assert told.lower() in err.lower()  # releases of Typer name arguments in capitals or not
    if code == 1:
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert "unexpected" not in err


def test_a_wrong_place_for_the_answer_is_told_before_the_question(run, monkeypatch):
    monkeypatch.setattr(verbs, "opened_model", lambda _: pytest.fail("the model was opened"))
    for extra, told in (
        (["--out", "{missing}/x.gpkg"], "no folder"),
        (["--out", "x.docx"], ".parquet"),
        (["--crs", "nonsense"], "EPSG:4326"),
    ):
        code, _, err = run("detect", ["{raster}", "tree", *TINY, *extra])
        assert code == 1
        assert told in err


def test_what_nobody_expected_is_one_line_too(run, monkeypatch):
    def fail(_):
        raise ZeroDivisionError("a bug [here]")

    monkeypatch.setattr(verbs, "opened_model", fail)
    code, _, err = run("detect", ["{raster}", "tree"])
    assert code == 1
    assert err.startswith("error: ZeroDivisionError: a bug [here] (unexpected: please report")
    monkeypatch.setenv("REMOTESAM_GEO_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("detect", ["{raster}", "tree"])
