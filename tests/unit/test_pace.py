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
    monkeypatch.setattr("trainer.pace.allowed_cores", lambda: 2)
    with torch_threads(2):
        yield


@pytest.mark.parametrize("best", [1, 2])
def test_the_faster_number_of_threads_is_left_set(best: int) -> None:
    def step() -> None:
        time.sleep(0.002 if torch.get_num_threads() == best else 0.02)

    assert settle_threads(step) == torch.get_num_threads() == best


@pytest.mark.parametrize(("allowed", "tried"), [(3, {3, 1}), (1, set())])
def test_a_limited_container_takes_no_more_threads_than_it_has_time_for(
    monkeypatch: pytest.MonkeyPatch, allowed: int, tried: set[int]
) -> None:
    monkeypatch.setattr("trainer.pace.allowed_cores", lambda: allowed)
    seen: set[int] = set()

    def step() -> None:
        seen.add(torch.get_num_threads())
        time.sleep(0.002 if torch.get_num_threads() == allowed else 0.02)

    with torch_threads(16):
        assert settle_threads(step) == torch.get_num_threads() == allowed
    assert seen == tried


def test_a_number_that_somebody_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    tried: list[int] = []
    assert settle_threads(lambda: tried.append(1)) == 2 and not tried
