"""The scripts under examples/ do offline what they say, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("script", "written"),
    [
        ("analyst", ["found.parquet", "found.png", "found.html"]),
        ("parcels", ["parcels.gpkg"]),
        ("large_area", ["found.parquet", "job/plan.json"]),
    ],
)
def test_examples_run(script, written, tmp_path):
    command = [sys.executable, ROOT / "examples" / f"{script}.py", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert all((tmp_path / name).exists() for name in written)
