"""No option of the command line is silently ignored: each one changes what is done, or is an error that names it."""

import json

import geopandas as gpd
import pandas as pd
import pytest
import shapely
import typer

import remotesam_geo.job
import remotesam_geo.learning.datasets
import remotesam_geo.learning.labelling
import remotesam_geo.model
import remotesam_geo.scenes.loading
import remotesam_geo.scenes.opening
import remotesam_geo.stac.save
import remotesam_geo.stac.search
import remotesam_geo.tracking.match
from remotesam_geo.cli import app, main
from remotesam_geo.cli import job_commands as jobs
from remotesam_geo.cli import tool_commands as tools
from remotesam_geo.cli import verb_commands as verbs
from remotesam_geo.learning.evaluation import BENCHMARKS

SAMPLES = {
    "model": "tiny", "out": "{folder}/out.gpkg", "threshold": "0.3", "resolution": "2", "min_area": "5",
    "crs": "EPSG:3857", "catalog": "here", "collection": "a", "bbox": ["1", "2", "3", "4"], "datetime": "2021",
    "max_items": "3", "load": '{{"mosaic": "first"}}', "zones": "{folder}/zones.gpkg", "query": "a<1",
    "tolerance": "3", "sha256": "00", "config": "{folder}/job.yaml", "add": "ship", "remove": "tree",
    "scheduler": "tcp://nowhere:1", "labels": "{folder}/zones.gpkg", "label": "name", "world": "2", "classes": "ship",
    "colours": "none", "size": "64", "overlap": "8", "absent": "1", "foreign": "0", "near": "3", "seed": "4",
    "page": "{folder}/page.png",
}  # fmt: skip
"""A value of each option; flags have none."""

CONTEXTS = {
    "search": [["here"]],
    **{
        verb: [["scene.tif", "tree"], ["items.json", "tree"], ["-", "tree", "--catalog", "there"]]
        for verb in (
            "segment",
            "refer",
            "detect",
            "ground",
            "label",
            "classify",
            "count",
            "caption",
        )
    },
    "change": [["{folder}/zones.gpkg"]],
    "convert": [["weights.pth", "{folder}/model"]],
    "engine": [
        ["{folder}/triplets", "--world", "1"],
        ["{folder}/triplets", "scene.tif", "--labels", "{folder}/zones.gpkg"],
        ["{folder}/triplets", "items.json", "--labels", "{folder}/zones.gpkg"],
        ["{folder}/triplets", "{folder}", "--labels", "{folder}/coco.json"],
    ],
    "doctor": [[]],
    "models": [[]],
    "map": [
        ["{folder}/job"],
        ["{folder}/job", "--add", "ship"],
        ["{folder}/job", "--remove", "ship"],
        ["{folder}/job", "--retry-failures"],
        ["{folder}/job", "--dry-run"],
        ["{folder}/job", "--config", "{folder}/job.yaml"],
        ["{folder}/job", "scene.tif", "tree"],
        ["{folder}/job", "items.json", "tree"],
        ["{folder}/job", "scene.tif", "tree", "--dry-run"],
        ["{folder}/job", "scene.tif", "tree", "--skip-failures"],
    ],
    "status": [["{folder}/job"]],
    "answer": [["{folder}/job"], ["{folder}/job", "detect"]],
}
ELSEWHERE = {"train", "evaluate", "demo"}
"""Commands of other modules, which parse their options themselves."""


def options_of(command):
    return [
        each
        for each in typer.main.get_command(app).commands[command].params
        if each.param_type_name == "option" and each.name != "help"
    ]


CASES = [(command, context) for command, contexts in CONTEXTS.items() for context in contexts]


class Estimate:
    windows = predictions = pixels = kept_bytes = seconds = 1


class Prompt:
    label = "tree"


class Spy:
    """Notes what is done, and gives something that will do."""

    def __init__(self, calls, name, results):
        self._calls, self._name, self._results = calls, name, results

    def __getattr__(self, verb):
        if verb == "prompts":
            return [Prompt()]

        def call(*given, **named):
            self._calls.append((f"{self._name}.{verb}", repr(given), repr(sorted(named.items()))))
            result = self._results.get(verb)
            return self if result is None else result

        return call

    def __repr__(self):
        return self._name


TABLE = pd.DataFrame(
    {"total": [1], "done": [1], "empty": [0], "failed": [0], "given_up": [0], "waiting": [0]},
    index=pd.Index(["tree"], name="label"),
)
FOUND = gpd.GeoDataFrame(
    {"label": ["tree"], "cause": ["none"], "count": [1]},
    geometry=[shapely.box(0, 0, 1, 1)],
    crs="EPSG:4326",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    zones = FOUND.assign(name="tree", colour="red", time=pd.Timestamp("2024-01-01"))
    zones.to_file(place / "zones.gpkg")
    (place / "job.yaml").write_text("source: scene.tif\nprompts: [tree]\n")
    (place / "coco.json").write_text(json.dumps({"categories": [{"name": "tree"}]}))
    return place


@pytest.fixture
def run(folder, capsys, monkeypatch):
    calls = []

    def spied(name, result):
        def call(*given, **named):
            calls.append((name, repr(given), repr(sorted(named.items()))))
            return result

        return call

    def load(items, bands=None, *, bbox=None, mosaic=None):
        calls.append(("load", repr(bbox), repr(mosaic), repr(bands)))
        return "scene"

    job = Spy(calls, "job", {"run": TABLE, "retry_failures": TABLE, "status": TABLE, "failures": FOUND,
                             "answer": FOUND, "estimate": Estimate()})  # fmt: skip
    item = type("Item", (), {"id": "a", "collection_id": "c", "datetime": None, "bbox": None})
    learning = remotesam_geo.learning
    monkeypatch.setattr(remotesam_geo.job, "Job", job)
    monkeypatch.setattr(remotesam_geo.scenes.opening, "open_raster", spied("open_raster", "scene"))
    monkeypatch.setattr(remotesam_geo.scenes.loading, "load", load)
    monkeypatch.setattr(remotesam_geo.stac.search, "search", spied("search", [item]))
    monkeypatch.setattr(remotesam_geo.stac.save, "save_items", spied("save_items", None))
    monkeypatch.setattr(remotesam_geo.tracking.match, "match_over_time", spied("match", FOUND))
    monkeypatch.setattr(remotesam_geo.model, "convert", spied("convert", type("Origin", (), {"sha256": "0"})))
    monkeypatch.setattr(jobs, "_connect_client", lambda place: place and f"a client of {place}")
    monkeypatch.setattr(tools, "_weights_fact", spied("model", "found"))
    monkeypatch.setattr(tools, "_network_facts", lambda: {"here": "reached"})
    monkeypatch.setattr(
        verbs, "opened_model", lambda name: calls.append(name) or Spy(calls, "model", dict.fromkeys(CONTEXTS, FOUND))
    )  # fmt: skip
    report = type(
        "Report",
        (),
        {
            "kinds": {},
            "to_json": lambda _: {},
            "table": lambda _: "",
            "save": lambda _, path: calls.append(path.name),
        },
    )()

    def run_engine(source, folder, *, engine, about, on_error):
        list(source(frozenset()) if callable(source) else source)
        calls.append(("engine", repr(engine), repr(about), on_error))
        return ["a triplet"], report

    monkeypatch.setattr(learning.labelling, "run_engine", run_engine)
    monkeypatch.setattr(learning.labelling, "statistics", lambda _: report)
    monkeypatch.setattr(learning.labelling, "sheet", lambda _: report)
    monkeypatch.setattr(learning.datasets, "cut_examples", lambda *_, **k: calls.append(("cut", repr(k))) or [])
    monkeypatch.setattr(learning.datasets, "read_coco", lambda *_, **k: calls.append(("coco", repr(k))) or [])

    def command(name, words):
        calls.clear()
        for file in ("out.gpkg",):
            (folder / file).unlink(missing_ok=True)
        code = main([name, *(word.format(folder=folder) for word in words)])
        said = capsys.readouterr()
        written = sorted(path.name for path in folder.iterdir())
        return code, [list(calls), said.out, written], said.err

    return command


@pytest.mark.parametrize(("command", "context"), CASES)
def test_every_option_changes_something_or_is_refused(run, command, context):
    code, plain, err = run(command, context)
    assert code == 0, err
    for option in options_of(command):
        spelled = option.opts[-1]
        if spelled in context:
            continue
        sample = SAMPLES.get(option.name, [])
        if command == "search" and option.name == "out":
            sample = "{folder}/items.json"
        code, done, err = run(command, [*context, spelled, *([sample] if isinstance(sample, str) else sample)])
        if code == 0:
            assert done != plain, f"{spelled} has no effect"
        else:
            assert spelled in err, err
            assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
            assert "unexpected" not in err
            assert not any("job." in str(call) for call in done[0])


def test_every_command_has_its_contexts():
    assert set(typer.main.get_command(app).commands) == {*CONTEXTS, *ELSEWHERE}
    used = {option.name for command in CONTEXTS for option in options_of(command)}
    flags = {option.name for command in CONTEXTS for option in options_of(command) if option.is_flag}
    assert used - flags - {"as_json"} <= set(SAMPLES) | {"as_json"}


@pytest.mark.parametrize("words", [
    ["--pool", "4096", "--data", "{folder}"],  # the default, written out, says nothing either
    ["--every", "500"],
    ["--held-out", "0.1"],
    ["--tensorboard"],
    ["--cooldown", "3", "--data", "{folder}"],
])  # fmt: skip
def test_training_refuses_options_of_the_other_kind(tmp_path, capsys, words):
    assert main(["train", str(tmp_path / "run"), *(word.format(folder=tmp_path) for word in words)]) == 2
    assert f"{words[0]} has no effect with" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


ROW = next(iter(BENCHMARKS))


@pytest.mark.parametrize("words", [
    ["join", "--threshold", "0.5"],
    ["join", "--model", "tiny"],
    ["join", "--format", "coco"],
    [ROW, "--format", "coco"],
    [ROW, "--classes", "ship"],
    [ROW, "--labels", "labels.json"],
    ["detection", "--split", "test"],
    ["detection", "--prior"],
    ["detection", "--balances", "1"],
    ["detection", "--format", "store", "--images", "here"],
    ["detection", "--model", "oracle", "--device", "auto"],
    ["grounding", "--classes", "ship"],
    ["grounding", "--as-is"],
    ["grounding", "--contours", "published"],
    ["referring", "--format", "store", "--classes", "ship"],
    ["referring", "--format", "rsvg", "--as-is"],
    ["referring", "--sweep", "0.4"],
    ["semantic", "--sweep", "0.4"],
    ["multi-label", "--contours", "published"],
    ["captioning", "--cases", "2"],
    ["captioning", "--sweep", "0.4"],
    ["counting", "--balances", "0.4"],
    [ROW, "--balances", "0.4"],
])  # fmt: skip
def test_evaluation_refuses_options_without_effect(tmp_path, capsys, words):
    assert main(["evaluate", words[0], str(tmp_path), *words[1:]]) == 2
    idle = next(word for word in reversed(words) if word.startswith("--"))
    assert f"{idle} has no effect on" in capsys.readouterr().err
