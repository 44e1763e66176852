"""The interactive map in a real browser, without a network."""

import json
import re
import shutil

import geopandas as gpd
import numpy as np
import pytest
import shapely

from remotesam_geo import explore
from remotesam_geo.errors import InputError, WriteError
from tests.outputs.test_outputs import full_disk
from tests.remotesam.test_remotesam import BAR, DISC, GREEN, MODEL, RED, scene_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = '</script><img src=x onerror="window.pwned=1"><!--data--><script>window.pwned=2</script>\u2028&amp;"\''
browser_test = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]
SCENE = scene_of([(BAR, RED), (DISC, GREEN)])


@pytest.fixture(scope="module")
def found():
    table = MODEL.segment(SCENE, ["red", "green"], progress=False)
    return table.assign(score=[0.6, 0.9])


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        own = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield own
        own.close()


@pytest.fixture
def visit(browser):
    """Open a page, and see all that it asks for and all that it complains of."""
    asked, complaints, opened = [], [], []
    context = browser.new_context(viewport={"width": 900, "height": 600})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))

    def go(path):
        opened.append(path.as_uri())
        page.goto(path.as_uri())
        settle(page)
        return page

    yield go
    assert [url for url in asked if not url.startswith("data:") and url not in opened] == []
    assert [line for line in complaints if "getImageData" not in line] == []  # as these tests do
    context.close()


def settle(frame):
    """Wait until all that was changed is drawn."""
    frame.wait_for_function("document.getElementById('shown').textContent.includes('shown')")
    frame.evaluate(
        "() => new Promise((done) => { const next = requestAnimationFrame; next(() => next(() => next(done))); })"
    )


COUNT = """([colour, least, most]) => {
    const map = document.getElementById('map');
    if (!map.width || !map.height) return false;
    const all = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;
    let count = 0;
    for (let i = 0; i < all.length; i += 4)
        if (Math.abs(all[i] - colour[0]) + Math.abs(all[i + 1] - colour[1]) + Math.abs(all[i + 2] - colour[2]) < 24)
            count += 1;
    return count >= least && count <= most;
}"""


def wait_for_pixels(frame, colour, least=0, most=10**9):
    """Wait until so many pixels of the map have a colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    frame.wait_for_function(COUNT, arg=[rgb, least, most], polling=100)


def slide(page, value):
    page.locator("#threshold").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }",
        value,
    )
    settle(page)


FIRST, SECOND = "#ffd92f", "#e7298a"


class TestInABrowser:
    pytestmark = browser_test

    def test_features_are_drawn_over_the_imagery(self, found, visit, tmp_path):
        page = visit(explore(found, SCENE, title="Two things").save(tmp_path / "map.html"))
        page.wait_for_function("document.getElementById('imagery').checked")
        assert page.title() == "Two things"
        assert page.locator("#title").text_content() == "Two things"
        assert page.locator("#shown").text_content() == "2 of 2 shown"
        assert page.locator("#labels label").all_inner_texts() == ["red\n1", "green\n1"]
        wait_for_pixels(page, FIRST, least=300)
        wait_for_pixels(page, SECOND, least=200)
        wait_for_pixels(page, "#0a0a0a", least=100_000)  # the ground of the scene
        page.locator("#imagery").uncheck()
        settle(page)
        wait_for_pixels(page, "#0a0a0a", most=1000)
        wait_for_pixels(page, FIRST, least=300)

    def test_threshold_and_labels_change_what_is_shown(self, found, visit, tmp_path):
        page = visit(explore(found, SCENE).save(tmp_path / "map.html"))
        slide(page, 0.7)
        assert page.locator("#shown").text_content() == "1 of 2 shown"
        wait_for_pixels(page, FIRST, most=0)
        wait_for_pixels(page, SECOND, least=200)
        page.locator("#labels input").nth(1).uncheck()
        settle(page)
        assert page.locator("#shown").text_content() == "0 of 2 shown"
        wait_for_pixels(page, SECOND, most=0)
        slide(page, 0.6)
        assert page.locator("#shown").text_content() == "1 of 2 shown"
        wait_for_pixels(page, FIRST, least=300)

    def test_a_click_tells_what_is_known_and_the_map_moves(self, found, visit, tmp_path):
        page = visit(explore(found, SCENE).save(tmp_path / "map.html"))
        page.mouse.click(450, 300)  # the disc, in the middle of the scene
        popup = page.locator("#popup")
        assert popup.is_visible()
        told = dict(
            zip(
                popup.locator("th").all_inner_texts(),
                popup.locator("td").all_inner_texts(),
                strict=True,
            )
        )
        assert told["label"] == "green"
        assert told["id"] == found["id"][1]
        page.keyboard.press("Escape")
        assert popup.is_hidden()
        before = page.locator("#bar span").text_content()
        page.mouse.wheel(0, -1500)
        settle(page)
        assert page.locator("#bar span").text_content() != before
        page.mouse.move(450, 300)
        settle(page)
        east = float(page.locator("#place").text_content().split(",")[0])
        assert east == pytest.approx(500150, abs=2)
        assert "EPSG:32633" in page.locator("#place").text_content()
        page.mouse.down()
        page.mouse.move(850, 300, steps=4)
        page.mouse.up()
        settle(page)
        page.mouse.move(450, 300)
        settle(page)
        assert float(page.locator("#place").text_content().split(",")[0]) < east - 10
        page.locator("#fit").click()
        settle(page)
        assert page.locator("#bar span").text_content() == before

    def test_it_works_in_a_notebooks_frame(self, found, visit, tmp_path):
        outer = tmp_path / "notebook.html"
        outer.write_text(f"<p id='shown'>shown</p>{explore(found, SCENE)._repr_html_()}", "utf-8")
        page = visit(outer)
        (frame,) = (frame for frame in page.frames if frame != page.main_frame)
        settle(frame)
        assert frame.locator("#shown").text_content() == "2 of 2 shown"
        page.locator("iframe").evaluate("frame => { frame.style.display = 'none'; }")
        page.locator("iframe").evaluate("frame => { frame.style.display = ''; }")  # a tab left and seen again
        wait_for_pixels(frame, FIRST, least=300)
        slide(frame, 0.7)
        wait_for_pixels(frame, FIRST, most=0)

    def test_hostile_words_do_nothing(self, found, visit, tmp_path):
        bad = found.assign(label=HOSTILE, id=HOSTILE).rename(columns={"items": HOSTILE})
        path = explore(bad, SCENE, title=HOSTILE).save(tmp_path / "map.html")
        page = visit(path)
        page.mouse.click(450, 300)
        settle(page)
        assert page.evaluate("window.pwned === undefined")
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 2
        assert page.locator("#title").text_content() == HOSTILE
        assert page.locator("#labels label span").nth(1).text_content() == HOSTILE
        assert HOSTILE in page.locator("#popup td").all_text_contents()
        assert HOSTILE in page.locator("#popup th").all_text_contents()
        assert page.title().split() == HOSTILE.split()
        outer = tmp_path / "notebook.html"
        outer.write_text(f"<p id='shown'>shown</p>{explore(bad, title=HOSTILE)._repr_html_()}", "utf-8")
        page = visit(outer)
        (frame,) = (frame for frame in page.frames if frame != page.main_frame)
        settle(frame)
        for each in (page, frame):
            assert each.evaluate("window.pwned === undefined")
            assert each.locator("img").count() == 0

    def test_the_page_forbids_itself_the_network_and_other_scripts(self, found, browser, tmp_path):
        path = explore(found, SCENE).save(tmp_path / "map.html")
        text = path.read_text("utf-8")
        path.write_text(
            text.replace(
                "</body>",
                "<script>window.pwned = 1</script><img src='http://127.0.0.1:9/x'></body>",
            ),
            "utf-8",
        )
        page = browser.new_page()
        blocked = []
        page.on("console", lambda line: blocked.append(line.text))
        page.goto(path.as_uri())
        settle(page)
        assert page.evaluate("window.pwned === undefined")
        assert sum("Content Security Policy" in line for line in blocked) == 2
        page.close()

    def test_many_small_features_and_a_picture(self, visit, tmp_path):
        random = np.random.default_rng(1)
        x, y = random.uniform(0, 4000, (2, 10_000))
        many = gpd.GeoDataFrame(
            {"label": random.choice(["a", "b"], 10_000), "score": random.random(10_000)},
            geometry=shapely.box(x, y, x + 3, y + 3),
        )  # fmt: skip
        picture = np.full((4000, 4000, 3), 30, np.uint8)
        page = visit(explore(many, picture).save(tmp_path / "map.html"))
        assert page.locator("#shown").text_content() == "10,000 of 10,000 shown"
        wait_for_pixels(page, FIRST, least=10_000)
        wait_for_pixels(page, SECOND, least=10_000)
        slide(page, 0.5)
        shown = int(page.locator("#shown").text_content().split()[0].replace(",", ""))
        assert shown == (many["score"] >= 0.5).sum()
        assert page.locator("#bar").is_hidden()  # a picture has no metres

    def test_nothing_found_and_no_scene(self, found, visit, tmp_path):
        page = visit(explore(found.iloc[:0], SCENE).save(tmp_path / "none.html"))
        assert page.locator("#shown").text_content() == "0 of 0 shown"
        page = visit(explore(found.to_crs("EPSG:4326")).save(tmp_path / "plain.html"))
        wait_for_pixels(page, FIRST, least=300)
        box = page.evaluate("JSON.parse(document.getElementById('data').textContent).size")
        assert box[0] / box[1] == pytest.approx(260 / 160, rel=0.05)  # square on the ground


def test_the_page_names_no_other_place(found, tmp_path):
    text = explore(found, SCENE).page
    assert not re.findall(r"""(?:https?:)?//[\w.-]+\.\w+""", re.sub(r"base64,[^\"]+", "", text))
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["score"] == [0.6, 0.9]
    assert data["labels"] == ["red", "green"]
    xy = np.reshape(data["rings"][0][0], (-1, 2))
    assert [*xy.min(axis=0), *xy.max(axis=0)] == [20, 30, 280, 50]


def test_what_is_missing_or_odd_is_shown_as_such(found):
    odd = found.assign(label=["red", None], score=[np.nan, 0.5])
    data = json.loads(re.search(r'id="data">(.*?)</script>', explore(odd).page, re.DOTALL)[1])
    assert data["labels"] == ["red", "no label"]
    assert data["score"] == [None, 0.5]
    places = gpd.GeoDataFrame(geometry=[DISC, shapely.Point(1, 1), shapely.LineString([(0, 0), (1, 1)]), None])
    data = json.loads(re.search(r'id="data">(.*?)</script>', explore(places).page, re.DOTALL)[1])
    assert data["labels"] == ["features"]
    assert [len(rings) for rings in data["rings"]] == [1, 1, 1, 0]


def test_mistakes_are_told(found, tmp_path):
    with pytest.raises(InputError, match="drawn over that picture"):
        explore(found, np.zeros((300, 300, 3), np.uint8))
    with pytest.raises(InputError, match="time=4"):
        explore(found, SCENE, time=4)
    with pytest.raises(InputError, match=r"must end in \.html"):
        explore(found).save(tmp_path / "map.png")
    kept = explore(found).save(tmp_path / "map.html")
    before = kept.read_bytes()
    with full_disk(5000), pytest.raises(WriteError):
        explore(found, SCENE).save(kept)
    assert kept.read_bytes() == before
