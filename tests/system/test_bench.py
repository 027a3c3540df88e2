"""`linewatch bench` runs the real network, the engine and the recorder."""

import json

import pytest

from config.cli import main


def test_bench_ends_with_the_keys_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--cameras", "1", "--seconds", "1", "--backend", "torch", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"frames_per_s", "p50_ms", "p99_ms", "efficiency", "stages", "memory_mb", "backend"} <= told.keys()
    assert told["frames"] > 0 and told["frames_per_s"] > 0
    assert list(told["stages"]) == ["upload", "teacher", "student", "maps", "regions", "queue"]
    assert told["backend"].startswith("torch cpu")


def test_bench_says_what_it_cannot_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--cameras", "1", "--seconds", "1", "--device", "cuda:7"]) == 1
    assert "CUDA" in capsys.readouterr().err
