"""RTSP over a network that loses packets, delays them and is cut, in a namespace of the test's own."""

import json
import subprocess
import sys
from typing import Any

import pytest


def over(transport: str, loss: float, delay_s: float) -> dict[str, Any]:
    """What became of a camera at the other end of such a wire."""
    alone = ["unshare", "--net", "--map-root-user", sys.executable, "-m", "tests.bad_wire"]
    done = subprocess.run(
        [*alone, transport, str(loss), str(delay_s)], capture_output=True, text=True, timeout=115
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["lost"] > 0
    return told


@pytest.mark.debian
def test_over_tcp_a_bad_network_costs_time_and_no_picture() -> None:
    told = over("tcp", 0.02, 0.03)
    assert told["skipped"] == {} and told["reconnects"] == {}
    assert 0.03 < told["age_s"] < 1.0
    assert told["outages"] == ["camera.down", "camera.up"]
    assert told["back_s"] < 3.0


@pytest.mark.debian
def test_over_udp_lost_packets_are_counted_as_damaged_pictures_and_break_nothing() -> None:
    told = over("udp", 0.02, 0.03)
    assert told["skipped"].keys() == {"damaged"} and told["reconnects"] == {}
    assert 0.03 < told["age_s"] < 0.5
    assert told["outages"] == ["camera.down", "camera.up"]
    assert told["back_s"] < 3.0
