"""`linewatch bench` runs the real network, the engine and the recorder."""

import json
from pathlib import Path

import pytest

from config.cli import main
from stream.bench_parts import publish_ms
from stream.outbox import Outbox
from tests.brokers import facts


def test_bench_ends_with_the_keys_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--cameras", "1", "--seconds", "1", "--backend", "torch", "--tiles", "1x2", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"frames_per_s", "p50_ms", "p99_ms", "efficiency", "stages", "memory_mb", "backend"} <= told.keys()
    assert told["frames"] > 0 and told["frames_per_s"] > 0
    assert 0 < told["half_load_p50_ms"] <= told["half_load_p99_ms"]
    stages = "decode queue upload teacher student head maps regions record"
    # Where there was time for no incident, there was nothing to publish.
    assert [stage for stage in told["stages"] if stage != "publish"] == stages.split()
    assert all(ms > 0 for ms in told["stages"].values())
    assert told["gmacs"] > 0 and told["of_arithmetic"] > 0 and told["naive_frames_per_s"] > 0
    assert told["backend"].startswith("torch cpu")


def test_publishing_is_measured_on_a_real_broker(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    assert publish_ms(outbox) is None
    outbox.put(facts(20))
    took = publish_ms(outbox)
    assert took is not None and took > 0 and outbox.pending == 0
    outbox.close()


def test_bench_says_what_it_cannot_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--cameras", "1", "--seconds", "1", "--device", "cuda:7"]) == 1
    assert "CUDA" in capsys.readouterr().err
