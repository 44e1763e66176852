"""How results were made, as plain JSON for their attributes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from odc.geo.geobox import GeoBox

from remotesam_geo import __version__
from remotesam_geo.words import Prompt

from .grid import Grid
from .stitch import Seam

__all__ = ["note_of_prompts", "note_of_run"]


def note_of_prompts(
    prompts: Sequence[Prompt], grid: Grid, geobox: GeoBox, *, seam: Seam | None, view: str = "map"
) -> dict[str, Any]:
    """How the prompts of one resolution were predicted.

    Args:
        prompts: The prompts.
        grid: The windows.
        geobox: The grid of pixels that the windows lie on.
        seam: How windows were joined; None where they were not.
        view: "map", "scene" or "zone".
    """
    return {
        "prompts": [asdict(prompt) for prompt in prompts],
        "view": view,
        "grid": grid.to_json(),
        "crs": None if geobox.crs is None else str(geobox.crs),
        "transform": list(geobox.affine[:6]),
        "seam": seam,
    }


def note_of_run(model: str, asked: Sequence[dict[str, Any]], run_id: str | None = None) -> dict[str, Any]:
    """How a result was made.

    Args:
        model: The model's identity.
        asked: A note for each resolution, from `note_of_prompts`.
        run_id: Names the run, if anything does.
    """
    named = {} if run_id is None else {"run_id": run_id}
    return {"remotesam_geo": __version__, "model": model, **named, "asked": list(asked)}
