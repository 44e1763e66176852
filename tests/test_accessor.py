"""The verbs in xarray's way."""

import inspect
import re
import subprocess
import sys

import pytest

from remotesam_geo import RemoteSAM
from remotesam_geo.accessor import VERBS, SceneVerbs
from tests.remotesam.test_remotesam import BAR, RED, Colours, scene_of
from tests.remotesam.test_verbs import same

SCENE, MODEL = scene_of([(BAR, RED)]), RemoteSAM(Colours())


def test_it_says_the_same():
    same(SCENE.remotesam(MODEL).detect("red"), MODEL.detect(SCENE, "red"))
    stacked = SCENE.to_dataarray("band")
    same(stacked.remotesam(MODEL).segment("red"), MODEL.segment(SCENE, "red"))


def test_it_lists_its_verbs_and_knows_no_other():
    asked = SCENE.remotesam(MODEL)
    assert "detect" in dir(asked)
    assert "64 px" in repr(asked)
    with pytest.raises(AttributeError, match="no attribute 'find'"):
        asked.find("red")


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_every_argument_of_a_method(verb):
    for owner, missing in ((RemoteSAM, ()), (SceneVerbs, ("scene",))):
        method = getattr(owner, verb)
        text = inspect.getdoc(method)
        documented = re.findall(r"^    (\w+): ", text.split("Args:\n")[1].split("\n\n")[0], re.MULTILINE)
        arguments = [name for name in inspect.signature(method).parameters if name != "self"]
        assert documented == arguments
        assert not set(missing) & set(arguments)
        assert "Returns:" in text
    assert list(inspect.signature(getattr(SCENE.remotesam(MODEL), verb)).parameters) == arguments


@pytest.mark.parametrize("name", ["load", "open_raster", "RemoteSAM"])
def test_any_first_use_registers_it(name):
    code = f"from remotesam_geo import {name}; import xarray; print(hasattr(xarray.Dataset, 'remotesam'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "True"
