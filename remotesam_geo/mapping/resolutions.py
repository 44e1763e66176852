"""Prompts grouped by the ground resolution at which they are predicted."""

from collections.abc import Sequence

from odc.geo.geobox import GeoBox

from remotesam_geo.geo.ground import Resolution, pixel_size
from remotesam_geo.words import Prompt, auto_resolution

__all__ = ["by_resolution"]


def by_resolution(prompts: Sequence[Prompt], place: GeoBox, window: int) -> list[tuple[Resolution, list[Prompt]]]:
    """Prompts that are asked at one resolution together, in the order asked.

    Args:
        prompts: What is asked.
        place: The scene's own grid.
        window: Side of the network's window, from which "auto" follows.
    """
    native = pixel_size(place).metres
    found: dict[Resolution, list[Prompt]] = {}
    for prompt in prompts:
        wanted = prompt.resolution
        if wanted == "auto":
            wanted = auto_resolution(prompt.expressions[0], window)
        # Nothing is gained by asking finer than the scene was seen.
        key: Resolution = "native" if wanted is None or wanted <= native else float(wanted)
        found.setdefault(key, []).append(prompt)
    return list(found.items())
