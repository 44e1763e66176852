"""How a job and its plan look in a notebook."""

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from remotesam_geo.notebook import boxes_picture, card, facts, table
from remotesam_geo.words import Prompt

from .plan import PlanGroup
from .storage.stored_layers import Records, layers

__all__ = ["job_card", "plan_card"]

DONE, FAILED, PLAIN = "#2b83ba", "#d7301f", "#8c96a0"
STATES = {"waiting": "#b3bac2", "partly done": "#8fc1de", "done": DONE, "failed": FAILED}
"""Blocks, from what matters least where many share a pixel."""
MOST = 3
"""Pictures shown: prompts of that many resolutions."""


def job_card(
    folder: Path,
    prompts: Sequence[Prompt],
    status: pd.DataFrame,
    records: Records,
    every: Sequence[PlanGroup],
) -> str:
    """A job: what became of each question, and where."""
    by_label = {prompt.label: prompt for prompt in prompts}
    rows = [
        [label, "; ".join(by_label[str(label)].expressions), *map(int, row)]
        for label, row in zip(status.index, status.to_numpy(), strict=True)
    ]
    pictures = [_blocks_picture(records, group) for group in every[:MOST]]
    return card("Job", str(folder), table(["label", "prompt", *status.columns], rows), pictures)


def plan_card(told: Sequence[tuple[str, str]], footprints: gpd.GeoDataFrame) -> str:
    """What a run would take, and the windows it would predict.

    Args:
        told: Names and values.
        footprints: As in `Estimate`.
    """
    pictures = []
    for resolution, own in list(footprints.groupby("resolution", sort=False))[:MOST]:
        boxes = own.bounds.to_numpy()[:, [0, 3, 2, 1]] * [1, -1, 1, -1]  # north is up
        title = _display_words_of_resolution(resolution)
        kinds = np.zeros(len(own), np.int64)
        pictures.append(boxes_picture(boxes, kinds, {"windows": PLAIN}, title=title))
    return card("Plan", "", facts(dict(told)), pictures)


def _blocks_picture(records: Records, group: PlanGroup) -> str:
    kept = layers(records.plan, group)
    known = [block for layer in kept for _, block in records.ledger.known(layer.key)]
    bad = {block for layer in kept for _, block, _ in records.ledger.misses(layer.key)}
    asked = len(kept) * len(group.source.dates)
    blocks = np.array(group.blocks, np.int64)
    done = np.bincount(known, minlength=int(blocks.max(initial=0)) + 1)[blocks]
    kinds = np.where(done >= asked, 2, (done > 0).astype(int))
    kinds[np.isin(blocks, list(bad))] = 3
    cores = [group.grid.block_at(int(index)).core for index in blocks]
    boxes = np.array([[core.left, core.top, core.right, core.bottom] for core in cores], float)
    title = f"blocks, {_display_words_of_resolution(group.resolution)}"
    return boxes_picture(boxes.reshape(-1, 4), kinds, STATES, title=title)


def _display_words_of_resolution(resolution: object) -> str:
    return "native resolution" if resolution == "native" else f"{resolution} m"
