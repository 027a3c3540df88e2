"""A few daemon threads that work side by side.

Not a ThreadPoolExecutor: the interpreter waits for the threads of one at its end, so a device that hangs
would keep the process alive after everybody gave up on it.
"""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future

_Job = tuple[Future[None], Callable[[], None]]


class Lanes:
    """`count` threads, started when they are first needed; they end when nobody holds the lanes any more."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def run(self, jobs: list[Callable[[], None]]) -> None:
        """Do all jobs and wait for all; raises what the first of them raised. For one thread at a time.

        A single job is done by the caller.
        """
        if len(jobs) == 1:
            return jobs[0]()
        futures = [self.begin(job) for job in jobs]
        errors = [error for future in futures if (error := future.exception()) is not None]
        try:
            if errors:
                raise errors[0]
        finally:
            # An error holds this frame: without this they would hold each other, and the threads would stay.
            del self, jobs, futures, errors

    def begin(self, job: Callable[[], None]) -> Future[None]:
        """Have one job done beside the caller; the future then raises what the job raised."""
        if not self._threads:
            self._start()
        future: Future[None] = Future()
        self._jobs.put((future, job))
        return future

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=_work, args=(self._jobs,), name=f"linewatch-lane-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()
        weakref.finalize(self, _end, self._jobs, self._count)


def _work(jobs: "queue.SimpleQueue[_Job | None]") -> None:
    while (item := jobs.get()) is not None:
        future, job = item
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            future.set_exception(error)
        else:
            future.set_result(None)
        # Else a job's arrays, and through them the lanes, would live until the next one.
        del item, future, job


def _end(jobs: "queue.SimpleQueue[_Job | None]", count: int) -> None:
    for _ in range(count):
        jobs.put(None)
