"""`linewatch bench` runs the real network, the engine and the recorder."""

import json

import pytest

from config.cli import main


def test_bench_ends_with_the_keys_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--cameras", "1", "--seconds", "1", "--backend", "torch", "--tiles", "1x2", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"frames_per_s", "p50_ms", "p99_ms", "efficiency", "stages", "memory_mb", "backend"} <= told.keys()
    assert told["frames"] > 0 and told["frames_per_s"] > 0
    stages = "decode queue upload teacher student head maps regions record publish"
    assert list(told["stages"]) == stages.split()
    assert all(ms > 0 for ms in told["stages"].values())
    assert told["gmacs"] > 0 and told["of_arithmetic"] > 0 and told["naive_frames_per_s"] > 0
    assert told["backend"].startswith("torch cpu")


def test_bench_says_what_it_cannot_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--cameras", "1", "--seconds", "1", "--device", "cuda:7"]) == 1
    assert "CUDA" in capsys.readouterr().err
