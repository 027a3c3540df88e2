"""How long a training still takes, by the steps of its last minute; and how one that was ended ends."""

import asyncio
import os
import signal
import sys

import pytest

from stream import training
from stream.training import Pace, Training
from tests.puppets import until

# In the place of `linewatch`: it is told to end when there is nothing left to do but the report.
SAVED = """
import json, signal, sys
def end(*_):
    print(json.dumps({"version": 3, "good_pictures": 12}))
    sys.exit()
signal.signal(signal.SIGTERM, end)
print(json.dumps({"progress": {"stage": "head", "step": 9, "steps": 9, "loss": 1.0}}), flush=True)
signal.pause()
"""


def test_nothing_is_said_before_two_steps_were_seen() -> None:
    pace = Pace()
    assert pace.left_s(1, 100, 10.0) is None
    assert pace.left_s(1, 100, 11.0) is None


def test_the_rest_takes_as_long_as_the_last_steps_did() -> None:
    pace = Pace()
    pace.left_s(10, 100, 0.0)
    assert pace.left_s(20, 100, 5.0) == pytest.approx(40.0)
    assert pace.left_s(100, 100, 45.0) == 0.0


def test_only_the_last_minute_counts_so_a_machine_that_gets_busy_is_noticed() -> None:
    pace = Pace()
    for step in range(60):
        pace.left_s(step, 1000, float(step))  # one a second
    for second in range(60, 180, 10):
        left_s = pace.left_s(59 + (second - 50) // 10, 1000, float(second))  # then one in ten seconds
    assert left_s is not None and left_s == pytest.approx(10 * (1000 - 71), rel=0.1)


async def test_a_training_that_was_saved_before_it_was_ended_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "linewatch", lambda: [sys.executable, "-c", SAVED])
    trainer = Training(lambda: None)
    trainer.start("top", "top", [])
    await until(lambda: trainer.state and trainer.state.phase == "finishing", 60)
    await trainer.cancel()
    assert trainer.state is not None
    assert (trainer.state.phase, trainer.state.version, trainer.state.reason) == ("done", 3, "")


async def test_a_training_that_is_cancelled_in_the_moment_it_is_asked_for_is_over() -> None:
    trainer = Training(lambda: None)
    trainer.start("top", "top", [])
    await trainer.cancel()
    assert trainer.state is not None
    assert (trainer.state.phase, trainer.state.at_work) == ("cancelled", False)


# What is left of it says nothing more, and keeps its words open: as one does that the kernel can't end.
ENDLESS = """
import subprocess, sys
print(subprocess.Popen(["sleep", "60"]).pid, file=sys.stderr, flush=True)
"""


async def test_a_training_that_can_not_be_ended_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "linewatch", lambda: [sys.executable, "-c", ENDLESS])
    monkeypatch.setattr(training, "_GRACE_S", 0.2)
    trainer = Training(lambda: None)
    trainer.start("top", "top", [])
    await until(lambda: trainer.state and trainer.state.notes, 60)
    assert trainer.state is not None and trainer.process is not None
    async with asyncio.timeout(10):
        await trainer.cancel()
    assert (trainer.state.phase, trainer.state.at_work) == ("cancelled", False)
    os.kill(int(trainer.state.notes[0]), signal.SIGKILL)
    await trainer.process.communicate()


async def test_a_library_that_writes_a_line_without_end_ends_no_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy = "import sys; sys.stderr.write('.' * 3_000_000 + '\\nIt is done.\\n'); print('x' * 3_000_000)"
    done = 'print(\'{"version": 3, "good_pictures": 12}\')'
    monkeypatch.setattr(training, "linewatch", lambda: [sys.executable, "-c", f"{noisy}; {done}"])
    trainer = Training(lambda: None)
    trainer.start("top", "top", [])
    await until(lambda: trainer.state and not trainer.state.at_work, 60)
    assert trainer.state is not None
    assert (trainer.state.phase, trainer.state.version) == ("done", 3)
    assert trainer.state.notes[-1:] == ("It is done.",)
    await trainer.stop()
