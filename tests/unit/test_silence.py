"""A machine in a plant tells nobody anything: what we import sends nothing and leaves no id behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMPORT = """
import multiprocessing, socket, sys
spoken = []
socket.socket.connect = lambda self, address: spoken.append(address)
socket.getaddrinfo = lambda *a, **k: spoken.append(a) or []
import engine.openvino_backend, stream.app, trainer.recipe
from openvino.tools.ovc import telemetry
telemetry.send_event("ov", "import", "general_import")
print(type(telemetry).__module__, multiprocessing.active_children(), spoken)
"""


def test_openvino_sends_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="no OpenVINO for this platform")
    # Its telemetry is silent in CI by itself.
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")}
    said = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env=kept | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.split("\n")[-2] == "openvino.tools.ovc.telemetry_stub [] []"
    assert list(tmp_path.glob("*ntel*")) == []
