"""What a person in Jupyter meets, in real kernels: cards, progress bars, silence, and Ctrl-C."""

import base64
import io
import os
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from jupyter_client.manager import KernelManager
from PIL import Image

from remotesam_geo import RemoteSAM
from remotesam_geo.job.reports import Estimate
from remotesam_geo.notebook import boxes_picture, card, facts, table
from tests.colours import Colours, Counting
from tests.job.job_folder import make_job, write_raster

LIMIT = 240
"""Seconds that a cell may take on a machine that is busy with other things."""
HOSTILE = "</td><script>x</script><img onerror=x>&\"'"


# --- cards ---------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """The elements of a card, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return "\n".join(self.words)


def harmless(text):
    """A card whose every word is text."""
    seen = Seen(text)
    assert set(seen.tags) <= {
        "style", "div", "header", "b", "span", "section", "table", "tr", "th", "td", "figure", "figcaption", "img",
        "br", "i",
    }  # fmt: skip
    assert set(seen.attributes) <= {"class", "src", "width", "height", "alt", "style"}
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)', text))
    return seen


def test_whatever_comes_from_users_is_text():
    seen = harmless(
        card(
            HOSTILE,
            HOSTILE,
            facts({HOSTILE: HOSTILE}) + table([HOSTILE], [[HOSTILE]]),
            [boxes_picture(np.array([[0, 0, 1, 1.0]]), np.zeros(1, int), {HOSTILE: "#000000"}, title=HOSTILE)],
        )
    )  # fmt: skip
    assert seen.text.count(HOSTILE) == 8


def pixels_of(figure):
    """The picture of a figure as RGBA."""
    source = re.search(r"base64,([^\"]+)", figure)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


def test_boxes_are_drawn_where_they_are():
    boxes = np.array([[10, 20, 20, 30], [20, 20, 40, 30], [10, 30, 20, 40]], float)
    figure = boxes_picture(boxes, np.array([0, 1, 1]), {"done": "#00ff00", "failed": "#ff0000"}, title="three")
    assert "done 1" in figure
    assert "failed 2" in figure
    pixels = pixels_of(figure)
    height, width, _ = pixels.shape
    assert width == 180
    assert height == 120
    assert pixels[30, 30].tolist() == [0, 255, 0, 255]
    assert pixels[30, 150].tolist() == [255, 0, 0, 255]
    assert pixels[90, 30].tolist() == [255, 0, 0, 255]
    assert pixels[90, 150, 3] == 0  # nothing is asked there
    assert pixels[30, 59, 3] == 0  # a line between two
    assert "none" in boxes_picture(np.zeros((0, 4)), np.zeros(0, int), {}, title="nothing")


def test_what_failed_is_seen_where_many_boxes_share_a_pixel():
    x, y = (part.ravel() for part in np.meshgrid(np.arange(2000.0), np.arange(50.0)))
    kinds = np.zeros(len(x), int)
    kinds[777] = 1
    boxes = np.stack([x, y, x + 1, y + 1], axis=1)
    pixels = pixels_of(boxes_picture(boxes, kinds, {"done": "#00ff00", "failed": "#ff0000"}, title="many"))
    assert (pixels[..., 0] == 255).any()


def test_a_model_a_job_and_its_plan_are_cards(tmp_path):
    raster = write_raster(tmp_path / "blobs.tif")
    model = Colours()
    model.identity = HOSTILE
    assert HOSTILE in harmless(RemoteSAM(model)._repr_html_()).text
    assert f"{model.image_size} px" in harmless(RemoteSAM(model)._repr_html_()).text
    job = make_job(tmp_path / "job <b>", raster, resolution={"green": 3})
    job.add({HOSTILE: "red <b> & things"})
    waiting = harmless(job._repr_html_())
    assert "job <b>" in waiting.text
    assert HOSTILE in waiting.text
    assert "red <b> & things" in waiting.text
    assert waiting.tags.count("img") == 2  # one for each resolution
    assert "done" in waiting.text  # the column; no block is
    assert "waiting 9" in waiting.text
    plan = harmless(job.estimate(measure=False)._repr_html_())
    assert plan.tags.count("img") == 2
    assert "not measured" in plan.text
    assert "about" in harmless(job.estimate()._repr_html_()).text
    job.run()
    assert "done 9" in harmless(job._repr_html_()).text


def test_failed_blocks_are_seen(tmp_path):
    raster = write_raster(tmp_path / "blobs.tif")
    calls = []

    def fail(_, images):
        calls.append(images.shape)
        if len(calls) == 3:
            raise RuntimeError("a bad day")

    job = make_job(tmp_path / "job", raster, model=Counting(fail))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job.run(on_error="skip")
    card_of_it = job._repr_html_()
    assert "failed 1" in card_of_it
    assert "done 8" in card_of_it
    red = (pixels_of(card_of_it) == (215, 48, 31, 255)).all(axis=-1)
    assert 0.05 < red.mean() < 0.3


def test_a_plan_of_nothing_is_a_card():
    nothing = gpd.GeoDataFrame({"resolution": []}, geometry=[], crs="EPSG:32633")
    told = Estimate(windows=0, predictions=0, pixels=0, kept_bytes=0, seconds=None, footprints=nothing)
    assert "img" not in harmless(told._repr_html_()).tags


# --- real kernels --------------------------------------------------------------------------------


class Kernel:
    """A kernel, and what its cells say."""

    def __init__(self, folder):
        home = {
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }
        root = str(Path(__file__).parents[1])
        self.manager = KernelManager(kernel_name="python3", connection_file=str(folder / "kernel.json"))
        self.manager.start_kernel(
            cwd=str(folder), env={**os.environ, **home, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        )
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.client.context.destroy()

    def run(self, code, interrupt_at=None):
        """Run a cell; with a word, interrupt it once it has printed that."""
        said, kinds, printed = [], [], ""

        def hear(message):
            nonlocal printed, interrupt_at
            kind, content = message["msg_type"], message["content"]
            if kind not in {"status", "execute_input"}:
                kinds.append(kind)
            if kind == "stream":
                said.append((content["name"], content["text"]))
                printed += content["text"]
            if kind in {"display_data", "execute_result"}:
                said.append((kind, content["data"]))
            if kind == "error":
                said.append((kind, f"{content['ename']}: {content['evalue']}"))
            if interrupt_at is not None and interrupt_at in printed:
                interrupt_at = None
                self.manager.interrupt_kernel()

        self.client.execute_interactive(code, output_hook=hear, timeout=LIMIT)
        return said

    def printed(self, code):
        """What a cell prints, which must go well."""
        said = self.run(code)
        assert {name for name, _ in said} <= {"stdout"}, said
        return "".join(text for _, text in said).strip()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    write_raster(folder / "blobs.tif")
    opened = Kernel(folder)
    yield opened
    opened.close()


@pytest.fixture
def fresh_kernel(tmp_path):
    write_raster(tmp_path / "blobs.tif")
    opened = Kernel(tmp_path)
    yield opened
    opened.close()


FIRST_USE = """
import remotesam_geo
from remotesam_geo import Job, RemoteSAM, contact_sheet, explore, load, open_raster, plot, save, search
model = RemoteSAM.from_pretrained("tiny")
scene = open_raster("blobs.tif")
found = model.segment(scene, "red building", progress=False)
save(found, "found.gpkg")
plot(found, scene)
explore(found, scene)
job = Job.create("job", scene, "red building", model)
job.run(progress=False)
job, job.estimate(), model
None
"""
BAR = """
from remotesam_geo import RemoteSAM, open_raster
from tests.colours import Colours
found = RemoteSAM(Colours()).segment(open_raster("blobs.tif"), "red things")
"""


def test_nothing_strays_into_the_first_cells(fresh_kernel):
    """Without widgets, which make tqdm talk: nothing is said, and bars are drawn as text."""
    assert fresh_kernel.run("import sys; sys.modules['ipywidgets'] = None") == []
    shown = fresh_kernel.run(FIRST_USE)
    assert [name for name, _ in shown] == ["display_data"], shown
    assert "image/png" in shown[0][1]  # the plot
    said = fresh_kernel.run(BAR)
    assert {name for name, _ in said} == {"stderr"}
    bar = "".join(text for _, text in said)
    assert "100%" in bar
    assert re.sub(r"predicting: .*?window/s\]|[\r\n ]", "", bar) == "", bar


def test_bars_are_widgets_where_there_are_widgets(kernel):
    said = kernel.run(BAR)
    assert [name for name, _ in said] == ["display_data"], said
    assert "application/vnd.jupyter.widget-view+json" in said[0][1]


SETTING = """
import itertools
import threading
from remotesam_geo import Job, RemoteSAM, open_raster
from tests.colours import Colours

class Stuck(Colours):
    identity = "stuck"

    def predict(self, images, expressions):
        if next(self.asked) == self.stuck_at:
            print("stuck", flush=True)
            assert gate.wait(600)
        return super().predict(images, expressions)

stuck, gate = Stuck(), threading.Event()
model, scene = RemoteSAM(stuck), open_raster("blobs.tif")

def set_out(stuck_at):
    stuck.asked, stuck.stuck_at = itertools.count(1), stuck_at
    gate.clear()

def threads_end():
    own = [thread for thread in threading.enumerate() if thread.name == "remotesam"]
    for thread in own:
        thread.join(200)
    return not any(thread.is_alive() for thread in own)
"""
LONG_WORK = {
    "segment": "found = model.segment(scene, 'red things', progress={progress})",
    "count": "found = model.count(scene, 'red things', progress={progress})",
    "job": "found = Job.create('job', scene, 'red things', stuck).run(progress={progress})",
}


@pytest.fixture
def set_kernel(kernel):
    assert kernel.printed(SETTING) == ""
    yield kernel
    kernel.manager.kernel_spec.interrupt_mode = "signal"


@pytest.mark.parametrize(
    ("work", "mode"),
    [("segment", "signal"), ("segment", "message"), ("count", "message"), ("job", "signal")],
)
def test_ctrl_c_ends_long_work_and_the_kernel_goes_on(set_kernel, work, mode):
    kernel, cell = set_kernel, LONG_WORK[work]
    kernel.manager.kernel_spec.interrupt_mode = mode
    assert kernel.printed("set_out(stuck_at=3)") == ""
    said = kernel.run(cell.format(progress=True), interrupt_at="stuck")
    assert said[-1] == ("error", "KeyboardInterrupt: ")
    # Its threads have ended, and no window was asked after the third.
    assert kernel.printed("print(threads_end(), next(stuck.asked))") == "True 4"
    assert kernel.printed("set_out(stuck_at=None)") == ""
    assert kernel.printed(cell.format(progress=False)) == ""
    there = "(found['waiting'] == 0).all()" if work == "job" else "len(found) > 0"
    assert kernel.printed(f"print({there})") == "True"


def test_ctrl_c_ends_a_lazy_map_that_dask_computes(set_kernel):
    kernel = set_kernel
    assert kernel.printed("set_out(stuck_at=3)") == ""
    said = kernel.run("model.probabilities(scene, 'red things').compute()", interrupt_at="stuck")
    assert said[-1] == ("error", "KeyboardInterrupt: ")
    # Dask's own threads end what they had begun; they wait for the gate until then.
    again = "gate.set(); print(float(model.probabilities(scene, 'red things').max()) > 0.5)"
    assert kernel.printed(again) == "True"
