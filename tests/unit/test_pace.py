"""Training takes the number of threads that is faster at the moment."""

import time
from collections.abc import Iterator

import pytest
import torch

from engine.choose import torch_threads
from trainer.pace import settle_threads


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with torch_threads(2):
        yield


@pytest.mark.parametrize("best", [1, 2])
def test_the_faster_number_of_threads_is_left_set(best: int) -> None:
    def step() -> None:
        time.sleep(0.002 if torch.get_num_threads() == best else 0.02)

    assert settle_threads(step) == torch.get_num_threads() == best


def test_a_limited_container_is_tried_with_as_many_threads_as_it_has_time_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.pace.cores_granted", lambda: 2.5)

    def step() -> None:
        time.sleep(0.002 if torch.get_num_threads() == 3 else 0.02)

    with torch_threads(16):
        assert settle_threads(step) == 3


def test_a_number_that_somebody_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    tried: list[int] = []
    assert settle_threads(lambda: tried.append(1)) == 2 and not tried
