"""Work side by side that ends with its owner and never keeps the process alive."""

import gc
import subprocess
import sys
import threading

import pytest

from engine.lanes import Lanes


def test_jobs_run_side_by_side_and_all_are_waited_for() -> None:
    together = threading.Barrier(2, timeout=5.0)
    done: list[int] = []

    def job() -> None:
        done.append(together.wait())

    Lanes(2).run([job, job, job, job])
    assert len(done) == 4


def test_what_a_job_raised_is_raised_after_all_have_ended() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Lanes(1).run([fail, lambda: done.append(1)])
    assert done == [1]


def test_the_threads_end_when_nobody_holds_the_lanes() -> None:
    lanes = Lanes(2)
    lanes.run([lambda: None] * 2)
    threads = [t for t in threading.enumerate() if t.name.startswith("linewatch-lane")]
    assert len(threads) == 2
    del lanes
    gc.collect()
    for thread in threads:
        thread.join(5.0)
    assert not any(thread.is_alive() for thread in threads)


def test_a_job_that_hangs_does_not_keep_the_process_alive() -> None:
    program = """
import threading
from engine.lanes import Lanes
lanes, begun = Lanes(1), threading.Event()
hang = lambda: (begun.set(), threading.Event().wait())
threading.Thread(target=lanes.run, args=([hang],), daemon=True).start()
assert begun.wait(5.0)
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)
    assert ended.returncode == 0


def test_a_single_job_is_done_by_the_caller() -> None:
    who: list[threading.Thread] = []
    Lanes(2).run([lambda: who.append(threading.current_thread())])
    assert who == [threading.current_thread()]


def test_one_job_may_be_begun_and_waited_for_later() -> None:
    lanes, go_on, done = Lanes(1), threading.Event(), list[int]()
    begun = lanes.begin(lambda: done.append(go_on.wait(5.0)))
    assert not begun.done()
    go_on.set()
    begun.result(5.0)
    assert done == [True]

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        lanes.begin(fail).result(5.0)
