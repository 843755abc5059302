"""Threads that each train one stack at a time, each on one core."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Space = TypeVar("Space")


class Workers(Generic[Space]):
    """A pool of threads, each with torch on a single core and working memory of its own.

    Members are independent, so that cores share no matrix: each stays in the cache of the core that trains
    it, and its numbers depend neither on the other members nor on how many cores there are. torch releases
    Python's lock inside its kernels.

    Parameters
    ----------
    count
        Threads; None takes torch's own number.
    make_space
        Builds the memory that one thread keeps from task to task.
    cores
        Cores per thread.
    """

    def __init__(self, count: int | None, make_space: Callable[[], Space], cores: int = 1) -> None:
        self.before = torch.get_num_threads()
        self.cores = cores
        self.make_space = make_space
        self.local = threading.local()
        self.pool = ThreadPoolExecutor(count or max(1, self.before // cores), initializer=self._prepare)

    def _prepare(self) -> None:
        torch.set_num_threads(self.cores)
        # Moments of dead units decay into denormal numbers, on which some processors compute slowly.
        torch.set_flush_denormal(True)
        self.local.space = self.make_space()

    def map(self, task: Callable[[Item, Space], Result], items: Iterable[Item]) -> list[Result]:
        """`task(item, space)` of every item, in the order of the items; the first exception is raised."""

        def run(item: Item) -> Result:
            return task(item, self.local.space)

        return list(self.pool.map(run, items))

    def __enter__(self) -> "Workers[Space]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(cancel_futures=True)
        # torch hands the last number set in any thread to threads that start later
        torch.set_num_threads(self.before)
