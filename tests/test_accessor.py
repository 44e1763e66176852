"""The verbs in xarray's way."""

import subprocess
import sys

import pytest

from remotesam_geo import RemoteSAM
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
    with pytest.raises(AttributeError, match="there are segment, refer, detect"):
        asked.find("red")


@pytest.mark.parametrize("name", ["load", "open_raster", "RemoteSAM"])
def test_any_first_use_registers_it(name):
    code = f"from remotesam_geo import {name}; import xarray; print(hasattr(xarray.Dataset, 'remotesam'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "True"
