"""Reading ahead, once it is plain that a scene is read row by row.

The blocks of a TIFF lie row by row over its whole width. A chunk that takes a few columns of them
needs one request a row of blocks; the whole width needs one for all of them. So when a chunk follows
its neighbour, the rest of its rows is fetched with it, up to where the scene ends, and kept. A chunk
on its own fetches its own blocks and nothing else.
"""

import sys
import threading
from collections import deque
from dataclasses import dataclass

from .nesting import Span

REMEMBERED = 16


@dataclass(frozen=True)
class Area:
    """Rows and columns of blocks."""

    rows: Span
    cols: Span


class ReadAhead:
    """What was lately read of one level of one file, and what will be read next.

    Args:
        limit: Most bytes fetched beyond what is asked for; 0: never.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._lately: deque[Area] = deque(maxlen=REMEMBERED)

    def extend(self, area: Area, scene: Area, block_bytes: float) -> Area:
        """The area to fetch for the one that is asked for.

        Args:
            area: Blocks asked for.
            scene: Blocks that the whole scene takes of this file.
            block_bytes: What a block weighs, about.
        """
        with self._lock:
            lately = list(self._lately)
            self._lately.append(area)
        weight = max(1.0, block_bytes) * (area.rows[1] - area.rows[0])
        more, (left, right) = int(self._limit / weight), area.cols
        if any(_follows_in_scan(area, before, scene) for before in lately):
            right = max(right, min(scene.cols[1], right + more))
        elif any(
            _follows_in_scan(_turned_upside_down(area), _turned_upside_down(before), _turned_upside_down(scene))
            for before in lately
        ):
            left = min(left, max(scene.cols[0], left - more))
        wide = Area(area.rows, (left, right))
        with self._lock:
            self._lately.append(wide)
        return wide


def _turned_upside_down(area: Area) -> Area:
    """Seen upside down: dask begins with the last chunk."""
    (top, bottom), (left, right) = area.rows, area.cols
    return Area((-bottom, -top), (-right, -left))


def _follows_in_scan(area: Area, before: Area, scene: Area) -> bool:
    """Whether an area continues a row of another, or begins the row below one that was finished."""
    (top, bottom), (left, _) = area.rows, area.cols
    to_the_right = before.rows == (top, bottom) and before.cols[0] < left <= before.cols[1]
    below = left <= scene.cols[0] and before.cols[1] >= scene.cols[1] and before.rows[0] < top <= before.rows[1]
    return to_the_right or below


def on_cluster() -> bool:
    """Whether this is a worker of dask.distributed: then neighbours may be read by other workers."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True
