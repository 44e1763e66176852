"""The command line at its edges: interrupts, full disks, closed pipes, files that are none, and odd YAML."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import typer

from remotesam_geo.cli import app, main
from remotesam_geo.cli import verb_commands as verbs
from remotesam_geo.cli.config import CHECKS
from remotesam_geo.errors import InputError, RemoteSAMError
from remotesam_geo.learning import training
from remotesam_geo.predictors import names
from tests.campaign import CASES
from tests.job.job_folder import make_job, write_raster

COMMAND = [sys.executable, "-c", "from remotesam_geo.cli import run; run()"]
READY = "import sys; from remotesam_geo.cli import run; print('ready', file=sys.stderr, flush=True); run()"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_raster(folder / "scene.tif", shape=(40, 40))
    make_job(folder / "job", folder / "scene.tif", prompts=("red",)).run()
    (folder / "binary").write_bytes(np.random.default_rng(0).bytes(4096))
    for name in (
        "binary.tif",
        "binary.json",
        "binary.yaml",
        "binary.gpkg",
        "binary.parquet",
        "binary.pth",
        "binary.png",
    ):
        (folder / name).write_bytes((folder / "binary").read_bytes())
        (folder / f"empty{name[6:]}").touch()
    (folder / "folder.tif").mkdir()
    (folder / "folder").mkdir()
    (folder / "text.tif").write_text("hello")
    return folder


@pytest.mark.parametrize("delay", [0, 0.02, 0.1, 0.3, 0.7])
def test_an_interrupt_while_the_command_gets_ready_is_one_line(place, delay):
    words = ["segment", str(place / "scene.tif"), "red", "--model", "tiny"]
    with subprocess.Popen(
        [sys.executable, "-c", READY, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stderr.readline() == "ready\n"
        time.sleep(0.03 + delay)  # whenever it comes, it ends so
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=120)
    assert "Traceback" not in told
    assert child.returncode in (130, 0, 3)  # a quick machine may be done before
    if child.returncode == 130:
        assert [line for line in told.splitlines() if not line.startswith("note:")][-1] == "stopped"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")  # noqa: PTH110
@pytest.mark.parametrize("words", [["status", "{job}"], ["status", "{job}", "--json"], ["--version"]])
def test_a_full_disk_is_one_line(place, words):
    words = [word.format(job=place / "job") for word in words]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: ")


def test_a_closed_pipe_is_at_most_one_line(place):
    out, into = os.pipe()
    os.close(out)
    done = subprocess.run(
        [*COMMAND, "status", str(place / "job"), "--json"],
        stdout=into,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(into)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert "closed" in done.stderr


INPUTS = ["binary", "folder.tif", "folder", "text.tif", "missing.tif", "missing", "", "empty.tif", "empty.json",
          "empty.yaml", "binary.tif", "binary.json", "binary.yaml", "binary.gpkg", "binary.parquet", "binary.png",
          "empty.parquet", "job", "scene.tif", "netcdf:none:none", "/dev/null", "\x01", "é.tif", "s3://",
          "http://", "-"]  # fmt: skip
COMMANDS = {
    "segment": [["{}", "red"]],
    "ground": [["{}", "red"]],
    "count": [["{}", "red"], ["{scene}", "red", "--zones", "{}"]],
    "search": [["{}"]],
    "change": [["{}"]],
    "convert": [["{}", "{new}"]],
    "map": [
        ["{new}", "{}", "red"],
        ["{new}", "--config", "{}"],
        ["{}"],
        ["{}", "{scene}", "red", "--dry-run"],
    ],
    "status": [["{}"]],
    "answer": [["{}"], ["{job}", "segment", "--out", "{}"], ["{job}", "{}"]],
    "engine": [["{new}", "{}", "--labels", "{}"], ["{new}", "{scene}", "--labels", "{}"]],
    "train": [["{new}"], ["{new}", "--data", "{}"], ["{new}", "--from", "{}"]],
    "evaluate": [
        ["detection", "{}", "--model", "oracle"],
        ["referring", "{}", "--model", "oracle", "--format", "store"],
        ["dior", "{}"],
        ["join", "{}"],
        ["counting", "{}", "--model", "oracle", "--against", "{}"],
    ],
}
PATHS = {"out", "labels", "images", "config", "zones", "page", "data", "start", "against", "model", "contours"}


def value_options(command):
    """The options of a command that take a value other than a path."""
    return [
        each.opts[-1]
        for each in typer.main.get_command(app).commands[command].params
        if each.param_type_name == "option" and not each.is_flag and each.name not in PATHS
    ]


VALUES = [
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "",
    "x",
    "²",
    "1,5",
    "EPSG:0",
    "é",
    "[",
    "{}",
    "\x01",
    "9" * 400,
]


@pytest.fixture
def run(place, tmp_path, capsys, monkeypatch):
    class Never:
        def __getattr__(self, name):
            raise InputError("the scene was opened")

    monkeypatch.setattr(verbs, "opened_model", lambda _: Never())
    monkeypatch.setattr(training, "train", lambda *_, **__: Never().train)
    zeros = EntryPoint("zeros", "tests.colours:Zeros", names.GROUP)
    monkeypatch.setattr(names, "entry_points", lambda *, group, name: [zeros] if name == "zeros" and group else [])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def command(words):
        code = main(words)
        said = capsys.readouterr()
        assert code in (0, 1, 2, 3), words
        if "unexpected" in said.err or "Traceback" in said.err:
            raise RuntimeError(f"{words}: {said.err}")
        if code == 1:
            assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1, words
        if code in (1, 2):
            raise RemoteSAMError(said.err)

    return command


def test_the_command_line_takes_anything(place, tmp_path, run, campaign, monkeypatch):
    monkeypatch.chdir(place)
    counted = campaign("command line", "files that are none as inputs, odd values of options")
    draw = random.Random(7)  # noqa: S311
    for number in range(CASES):
        command = draw.choice(list(COMMANDS))
        words = draw.choice(COMMANDS[command])
        fixed = {
            "{scene}": "scene.tif",
            "{job}": str(place / "job"),
            "{new}": str(tmp_path / f"new{number}"),
        }
        given = [fixed.get(word, draw.choice(INPUTS) if word == "{}" else word) for word in words]
        if command == "map" and len(words) > 2 and "--config" not in words:
            given += ["--model", "zeros"]
        if draw.random() < 0.5 and (options := value_options(command)):
            given += [draw.choice(options), draw.choice(VALUES)]
        counted.case(lambda given=given, command=command: run([command, *given]))


PLAIN = {
    "source": "scene.tif", "prompts": ["red things"], "model": "zeros", "threshold": 0.5, "resolution": 2,
    "overlap": 0.25,
    "seam": "blend", "keep_probabilities": True, "bands": ["red", "green", "blue"], "load": {"mosaic": "first"},
    "catalog": "binary.json", "collections": ["a"], "bbox": [1, 2, 3, 4], "datetime": "2021", "max_items": 3,
}  # fmt: skip
WRONG = [
    None,
    True,
    0,
    -1,
    3,
    0.5,
    "x",
    "",
    [],
    [1],
    ["a"],
    {},
    {"a": 1},
    {"a": ["b"]},
    [[1]],
    "os:abort",
    10**30,
    -0.0,
]
TEXTS = [
    "source: [", "- a", "a", "", "source: scene.tif\nsource: other.tif\nprompts: [a]", "a: &x [1]\nb: *x", "? [a]\n: b",
    "prompts: !!python/object/apply:os.abort []", "!!binary x", "source: .nan", "\t", "a: b: c", "%YAML 9.9\n---\na: b",
    "[" * 3000, "{a: " * 500, "source: 2021-13-45", "\ufeffsource: scene.tif", "--- a\n--- b", "<<: {a: 1}",
    "a: 0x", "1: 2",
]  # fmt: skip


def test_a_job_file_takes_anything(place, tmp_path, run, campaign, monkeypatch):
    monkeypatch.chdir(place)
    counted = campaign("YAML job files", "values of other types, unknown and missing keys, odd YAML")
    draw = random.Random(11)  # noqa: S311
    for number in range(CASES):
        if number < len(TEXTS):
            text = TEXTS[number]
        else:
            doc = {name: PLAIN[name] for name in ("source", "prompts", "model")}
            for name in draw.sample(list(PLAIN), draw.randint(0, 3)):
                doc[name] = draw.choice([PLAIN[name], draw.choice(WRONG)])
            if draw.random() < 0.2:
                doc.pop(draw.choice(list(doc)))
            if draw.random() < 0.2:
                doc[draw.choice(["sauce", "Prompts", "tresholds", "", "1"])] = draw.choice(WRONG)
            text = json.dumps(doc)
        config = tmp_path / f"{number}.yaml"
        config.write_text(text, "utf-8")
        counted.case(lambda config=config, number=number: run(
            ["map", str(tmp_path / f"job{number}"), "--config", str(config), "--dry-run"]
        ))  # fmt: skip
        assert not (tmp_path / f"job{number}").exists()


def test_a_dry_run_leaves_every_byte(place, tmp_path, run):
    new, scene = str(tmp_path / "new"), str(place / "scene.tif")
    for words in (["tree"], ["tree", "ship"]):
        run(["map", new, scene, *words, "--model", "zeros", "--dry-run"])
    assert not (tmp_path / "new").exists()
    run(["map", new, scene, "tree", "ship", "--model", "zeros"])

    def state():
        files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = state()
    for words in (
        [],
        ["--add", "car"],
        ["--remove", "ship"],
        ["--add", "car", "--remove", "ship", "--resolution", "3"],
    ):
        run(["map", new, *words, "--dry-run"])
    assert state() == before
    assert main(["answer", new]) == 3
    run(["map", new, "--remove", "ship"])
    with pytest.raises(RemoteSAMError, match="without a prompt"):
        run(["map", new, "--remove", "tree"])


@pytest.mark.parametrize(("line", "told"), [
    ("tresholds: 0.5", "did you mean 'threshold'"),
    ("threshold: high", "threshold='high' is not allowed"),
    ("threshold: {red things: .nan}", "threshold of 'red things'=nan"),
    ("overlap: true", "overlap=True is not allowed"),
    ("seam: Blend", "Did you mean 'blend'"),
    ("keep_probabilities: 1", "keep_probabilities=1 is not allowed"),
    ("resolution: Native", "Did you mean 'native'"),
    ("model: 3", "model is 3: give a text"),
    ("load: [1]", "load is [1]"),
    ("prompts: [red]", "there twice"),
])  # fmt: skip
def test_mistakes_in_a_job_file_name_the_key(place, tmp_path, capsys, line, told):
    config = tmp_path / "job.yaml"
    config.write_text(f"source: {place / 'scene.tif'}\nprompts: [red things]\n{line}\n")
    assert main(["map", str(tmp_path / "job"), "--config", str(config)]) == 1
    err = capsys.readouterr().err
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "job").exists()
    assert "threshold" in CHECKS
