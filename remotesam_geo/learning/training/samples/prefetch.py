"""Batches that other processes make ahead of training, so that a fast device does not wait for pictures."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

from .batches import Batch, BatchSource

__all__ = ["ahead"]


@contextmanager
def ahead(source: BatchSource, workers: int, *, step: int = 1) -> Iterator[BatchSource]:
    """The same batches, made before they are asked for.

    Args:
        source: Makes them; each process has one of its own.
        workers: Processes; with none batches are made where they are asked for.
        step: From the number of a batch to that of the one that will be asked for next.
    """
    if not workers:
        yield source
        return
    # Not forked: a process that has used threads or a GPU cannot be.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_keep_prefetch_source, initargs=(source,)) as pool:
        yield _Ahead(pool, depth=2 * workers, step=step)
        pool.shutdown(cancel_futures=True)


class _Ahead:
    """A source that keeps so many batches begun."""

    def __init__(self, pool: ProcessPoolExecutor, *, depth: int, step: int) -> None:
        self._pool, self._depth, self._step = pool, depth, step
        self._begun: dict[int, Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        wanted = range(step, step + self._depth * self._step, self._step)
        self._begun = {
            number: self._begun.get(number) or self._pool.submit(_prefetch_batch, number) for number in wanted
        }
        return self._begun.pop(step).result()


_SOURCES: list[BatchSource] = []  # of a process of the pool: one


def _keep_prefetch_source(source: BatchSource) -> None:
    _SOURCES.append(source)


def _prefetch_batch(step: int) -> Batch:
    return _SOURCES[0].batch(step)
