"""Keep this package working in a forked process, where no thread of the parent exists.

Dask would hand tasks to a pool whose threads are gone, and torch would wait for OpenMP threads that are gone, both for
ever. A forked process gets new pools, and torch computes on one thread there, as in the workers of torch's data loader.
"""

import os
import sys
import threading
from typing import Any

__all__: list[str] = []


def _after_fork() -> None:
    threaded: Any = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.pools_lock = threading.Lock()
        threaded.default_pool = None
        threaded.pools.clear()
        threaded.main_thread = threading.current_thread()
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
