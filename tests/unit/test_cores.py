"""How many cores the network may have: those of the machine, or what a container is allowed of them."""

from pathlib import Path

import pytest

from engine.cores import cores_granted, usable_cores


def group(tmp_path: Path, inside: str, limits: dict[str, str]) -> tuple[Path, Path]:
    """(where control groups are mounted, the file that says in which one this process is)."""
    for name, limit in limits.items():
        (tmp_path / "cgroup" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name / "cpu.max").write_text(f"{limit}\n")
    (tmp_path / "mine").write_text(f"1:name=systemd:/other\n0::{inside}\n")
    return tmp_path / "cgroup", tmp_path / "mine"


@pytest.mark.parametrize(
    ("inside", "limits", "cores"),
    [
        ("/", {".": "200000 100000"}, 2.0),
        ("/", {".": "max 100000"}, float("inf")),
        ("/system.slice/linewatch.service", {"system.slice/linewatch.service": "150000 100000"}, 1.5),
        ("/a/b", {"a": "100000 50000", "a/b": "max 100000"}, 2.0),
        ("/a/b", {"a": "400000 100000", "a/b": "300000 100000", "other": "1000 100000"}, 3.0),
        ("/", {".": "garbled"}, float("inf")),
    ],
)
def test_the_tightest_limit_of_its_groups_holds(
    tmp_path: Path, inside: str, limits: dict[str, str], cores: float
) -> None:
    assert cores_granted(*group(tmp_path, inside, limits)) == cores


def test_a_machine_without_such_groups_limits_nothing(tmp_path: Path) -> None:
    assert cores_granted(tmp_path, tmp_path / "none") == float("inf")
    (tmp_path / "mine").write_text("4:cpu:/\n")
    assert cores_granted(tmp_path, tmp_path / "mine") == float("inf")


@pytest.mark.parametrize(
    ("granted", "cores"), [(0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (3.0, 2), (8.0, 7), (float("inf"), 63)]
)
def test_a_limited_container_on_a_large_machine_gets_as_many_threads_as_it_has_time_for(
    monkeypatch: pytest.MonkeyPatch, granted: float, cores: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr("engine.cores.cores_granted", lambda: granted)
    assert usable_cores() == cores
