"""Blocks predicted on the workers of any dask.distributed cluster; only the driver writes.

A task is one block: the items it needs and the numbers of its windows go out, its maps come back as bytes. Nothing is
kept on a worker, so any task can be done again anywhere, and no graph is larger than what is in flight.
"""

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from remotesam_geo import errors
from remotesam_geo.errors import InputError, JobError, RemoteSAMError
from remotesam_geo.geo.box import Box
from remotesam_geo.mapping.executor import BlockMap, OnError, WindowFailure, Work, run
from remotesam_geo.mapping.grid import Block
from remotesam_geo.mapping.stitch import needed
from remotesam_geo.predictors.protocol import Codes, Predict, predicted_codes
from remotesam_geo.tasks import FAILED

from .plan import PlanGroup
from .predict_stage import BlockResult, Todo, file, made, work_of
from .source_recipe import RecipeSource
from .storage.ledger import MOST_ATTEMPTS
from .storage.stored_layers import Records, StoredLayer

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Opener", "predict_on_cluster"]

PATIENCE = 300.0
"""Seconds without any worker after which a run ends; dask's `distributed.scheduler.no-workers-timeout` goes first."""

POLL = 0.5
"""Seconds between two looks at whether there are workers."""

CLOSED = ("closing", "closed")

TRIES = 2
"""How often a block whose workers died is given out again; each time the scheduler itself tries several workers."""

Place = tuple[int, int]
"""Date and number of a block."""


class Opener(Protocol):
    """How a process opens the model; equal ones are opened once a process. It travels to the workers."""

    def __hash__(self) -> int: ...

    def open(self) -> Predict:
        """Open it."""


def predict_on_cluster(
    records: Records,
    group: PlanGroup,
    lacking: Todo,
    opener: Opener,
    client: "Client",
    *,
    on_error: OnError,
    progress: Callable[[int], object],
    batch: int = 1,
) -> None:
    """Ask what is lacking on a cluster, and file it here.

    Args:
        records: What is on disk.
        group: What is predicted.
        lacking: Which blocks.
        opener: How a worker opens the model.
        client: Of any cluster; it may grow, shrink and lose workers.
        on_error: "raise" stops at the first failure, "skip" notes it and goes on.
        progress: Told with each block how many windows were done.
        batch: Pairs of window and expression that are predicted together.

    Raises:
        JobError: Workers that were given one block died again and again, with on_error="raise"; or there was no worker
            for `PATIENCE` seconds.
    """
    if client.asynchronous:
        raise InputError(
            "this client is asynchronous: give a Client(...) without asynchronous=True; it works in notebooks too"
        )
    for wanted, blocks in lacking.items():
        work = work_of(group, wanted, blocks, on_error, batch=batch)
        with records.ledger.together() as note:
            for place, answer in _block_results(work, wanted, sorted(blocks), opener, client):
                if answer is None and on_error == "raise":
                    raise JobError(
                        f"the workers that were given block {place[1]} of time {place[0]} died again and again: see "
                        "their logs. Too little memory, or a model that ends its process, are the usual causes. "
                        "on_error='skip' leaves the block out and continues."
                    )
                outcome = _given_up(work, wanted, place) if answer is None else answer
                block = group.grid.block_at(place[1])
                note(file(records, group, wanted, _opened_up(outcome, wanted, block)))
                progress(outcome.windows)


def _block_results(
    work: Work,
    wanted: Sequence[StoredLayer],
    places: Sequence[Place],
    opener: Opener,
    client: Any,
) -> Iterator[tuple[Place, BlockResult | None]]:
    """The outcome of each block, in any order; None where its workers died again and again."""
    from distributed import KilledWorker  # noqa: PLC0415 - behind an extra
    from distributed.scheduler import NoValidWorkerError, NoWorkerError  # noqa: PLC0415 - behind an extra

    waiting, suspects, tries = deque(places), deque[Place](), Counter[Place]()
    flying: dict[Any, Place] = {}
    finished: SimpleQueue[Any] = SimpleQueue()

    def send(place: Place) -> None:
        if client.status in CLOSED:
            raise _blocks_left_alone("the client of the cluster was closed")
        task = _cluster_task_for_block(work, wanted, place, opener)
        key = f"remotesam-{uuid.uuid4().hex}"
        future = client.submit(_run_block_task, task, key=key, pure=False)
        flying[future] = place
        future.add_done_callback(finished.put)

    try:
        while waiting or suspects or flying:
            while waiting and len(flying) < max(2, 2 * _cluster_threads(client)):
                send(waiting.popleft())
            if not flying:
                # Alone: when a worker dies all that it holds is suspected, and only one of them need be to blame.
                send(suspects.popleft())
            future = _next_future(finished, client)
            place = flying.pop(future)
            try:
                result = future.result()
            except (NoWorkerError, NoValidWorkerError) as error:
                raise _blocks_left_alone(f"the scheduler has no worker: {error}") from error
            except (KilledWorker, CancelledError):  # its worker died, or the cluster lost it
                tries[place] += 1
                if tries[place] <= TRIES:
                    suspects.append(place)
                else:
                    yield place, None
                continue
            if isinstance(result, RemoteSAMError):
                raise result
            yield place, result
    finally:
        if client.status == "running":
            client.cancel(list(flying))


def _next_future(finished: "SimpleQueue[Any]", client: Any) -> Any:
    """The next future that is done.

    Raises:
        JobError: There was no worker for as long as this waits for one.
    """
    patience, since = _wait_for_workers_seconds(), time.monotonic()
    while True:
        try:
            return finished.get(timeout=POLL)
        except Empty:
            pass
        if client.status in CLOSED:
            raise _blocks_left_alone("the client of the cluster was closed")
        if _cluster_threads(client):
            since = time.monotonic()
        elif time.monotonic() - since >= patience:
            raise _blocks_left_alone(f"the cluster has had no worker for {patience:.0f} s")


def _blocks_left_alone(what: str) -> JobError:
    return JobError(
        f"{what}. If workers died, see their logs: too little memory, or a model that ends its process, are the usual "
        "causes. What was done is kept: start workers, and run() again."
    )


def _wait_for_workers_seconds() -> float:
    """Seconds to wait for a first or another worker."""
    import dask  # noqa: PLC0415 - behind an extra

    wanted = dask.config.get("distributed.scheduler.no-workers-timeout", None)
    return PATIENCE if wanted is None else float(dask.utils.parse_timedelta(wanted))


def _cluster_threads(client: Any) -> int:
    """Threads of all workers there are now; 0 where the scheduler cannot be reached."""
    try:
        return sum(client.nthreads().values())
    except (OSError, TimeoutError):
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _BlockTask:
    """One block for a worker."""

    work: Work
    wanted: tuple[StoredLayer, ...]
    opener: Opener


def _cluster_task_for_block(work: Work, wanted: Sequence[StoredLayer], place: Place, opener: Opener) -> _BlockTask:
    block = work.grid.block_at(place[1])
    windows = needed(work.grid, block.core, work.seam)
    region = reduce(Box.hull, (window.box for window in windows)).common(work.grid.raster)
    source = work.source
    if isinstance(source, RecipeSource):
        source = source.near(region or work.grid.raster)
    return _BlockTask(
        work=replace(work, source=source, todo=frozenset([place])),
        wanted=tuple(wanted),
        opener=opener,
    )


def _run_block_task(task: _BlockTask) -> BlockResult | RemoteSAMError:
    """On a worker: read, predict, and give back bytes; or what went wrong, as the cluster itself would garble it."""
    work, predict = task.work, _open_model_once_on_worker(task.opener)
    try:
        # In the task's own thread: a worker's threads take a task each, so that one reads while another predicts.
        (outcome,) = run(work, predict, lambda answer: made(answer, work, task.wanted), readers=0)
    except RemoteSAMError as error:
        return _travelling_error(error)
    squeezed = [
        kept if isinstance(kept, bytes) else pa.compress(np.ascontiguousarray(kept).data, codec="zstd", asbytes=True)
        for kept in outcome.kept
    ]
    return replace(outcome, kept=tuple(squeezed))


def _travelling_error(error: RemoteSAMError) -> RemoteSAMError:
    """An error that travels: of a public type, with its text alone."""
    public = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    told: RemoteSAMError = public(str(error))
    return told


def _opened_up(outcome: BlockResult, wanted: Sequence[StoredLayer], block: Block) -> BlockResult:
    """The maps in what a worker gave back."""
    size = block.core.shape[0] * block.core.shape[1]
    kept = [
        np.frombuffer(pa.decompress(kept, size, codec="zstd"), np.uint8).reshape(block.core.shape)
        if layer.prompt is None and isinstance(kept, bytes)
        else kept
        for layer, kept in zip(wanted, outcome.kept, strict=True)
    ]
    return replace(outcome, kept=tuple(kept))


def _given_up(work: Work, wanted: Sequence[StoredLayer], place: Place) -> BlockResult:
    """A block of which every window has failed, as often as may be."""
    block = work.grid.block_at(place[1])
    answer = BlockMap(
        date=place[0],
        block=block,
        codes=np.full((len(work.expressions), *block.core.shape), FAILED, np.uint8),
        failures=tuple(
            WindowFailure(
                date=place[0],
                window=window.index,
                core=window.core,
                cause="the workers that were given it died again and again",
            )
            for window in work.own(block)
        ),
    )
    outcome = made(answer, work, wanted)
    return replace(outcome, misses=tuple(replace(miss, attempts=MOST_ATTEMPTS) for miss in outcome.misses))


_opening = Lock()


def _open_model_once_on_worker(opener: Opener) -> Predict:
    with _opening:
        return _open_model(opener)


@lru_cache(maxsize=2)
def _open_model(opener: Opener) -> Predict:
    """The model, once a process; one thread runs it at a time."""
    predict, turn = opener.open(), Lock()

    def one_by_one(images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
        with turn:
            return predicted_codes(predict, images, expressions)

    return one_by_one
