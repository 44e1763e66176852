"""Prompts grouped by the ground resolution at which they are predicted."""

import warnings
from collections.abc import Iterable, Sequence

from odc.geo.geobox import GeoBox

from remotesam_geo.errors import RemoteSAMWarning
from remotesam_geo.geo.ground import SAME, Resolution, pixel_size, plan_geobox
from remotesam_geo.words import Prompt, auto_resolution, warn_of_sizes

__all__ = ["by_resolution", "warn_of_resolutions"]


def by_resolution(prompts: Sequence[Prompt], place: GeoBox, window: int) -> list[tuple[Resolution, list[Prompt]]]:
    """Prompts that are predicted at one resolution together, in the order given.

    Args:
        prompts: The prompts.
        place: The scene's own grid.
        window: Side of the network's window, from which "auto" follows.
    """
    native = pixel_size(place).metres
    found: dict[Resolution, list[Prompt]] = {}
    for prompt in prompts:
        wanted = prompt.resolution
        if wanted == "auto":
            wanted = auto_resolution(prompt.expressions[0], window)
        # Nothing is gained by predicting at a finer resolution than the scene has.
        key: Resolution = "native" if wanted is None or wanted <= native else float(wanted)
        found.setdefault(key, []).append(prompt)
    return list(found.items())


def warn_of_resolutions(groups: Iterable[tuple[Resolution, Sequence[Prompt]]], place: GeoBox, window: int) -> None:
    """Warn of prompts whose resolution does not suit their classes or the scene. Nothing is read.

    Args:
        groups: Prompts by resolution, as `by_resolution` gives them.
        place: The scene's own grid.
        window: Pixels along the side of the network's window.
    """
    native = pixel_size(place).metres
    for metres, prompts in groups:
        side = pixel_size(plan_geobox(place)).metres if metres == "native" else float(metres)
        warn_of_sizes(prompts, metres=side, window=window)
        finer = {
            prompt.resolution: prompt.label
            for prompt in prompts
            if isinstance(prompt.resolution, float) and prompt.resolution < native * (1 - SAME)
        }
        for wanted, label in finer.items():
            warnings.warn(
                f"resolution={wanted:g} of {label!r} is finer than the scene, whose pixels measure {native:.4g} m: it "
                f"is predicted at {native:.4g} m. Leave resolution out, or give a finer scene",
                RemoteSAMWarning,
                stacklevel=5,
            )
