"""Run every notebook from top to bottom in a kernel and an empty folder of its own; the first error ends it.

With --save what they print and draw is kept, pictures as small JPEGs. Names (01_first_steps) choose some of them.
"""

import os
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import environment

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def main() -> int:
    chosen = [name for name in sys.argv[1:] if name != "--save"] or ["*"]
    paths = sorted(path for name in chosen for path in NOTEBOOKS.glob(f"{name}.ipynb"))
    if not paths:
        sys.exit(f"no notebooks in {NOTEBOOKS}")
    environment.settle()
    os.environ["PYTHONPATH"] = str(NOTEBOOKS.parent)
    for path in paths:
        begun = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(
                notebook,
                timeout=900,  # of one cell, on a busy machine
                startup_timeout=300,
                kernel_name="python3",
                resources={"metadata": {"path": folder}},
            ).execute()
        if "--save" in sys.argv:
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)
                for output in cell.get("outputs", []):
                    shrink(output.get("data", {}))
            nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}: {time.perf_counter() - begun:.0f} s\n")
    return 0


def shrink(data: dict[str, Any]) -> None:
    """Keep a picture as a small JPEG, so that the repository stays small."""
    if "image/png" in data:
        picture = Image.open(BytesIO(b64decode(data.pop("image/png")))).convert("RGB")
        picture.thumbnail((640, 640))
        small = BytesIO()
        picture.save(small, "JPEG", quality=70)
        data["image/jpeg"] = b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    sys.exit(main())
