"""Our import names are ours alone, and a command costs nothing before it is asked for."""

import json
import subprocess
import sys
from importlib.metadata import entry_points, packages_distributions

import pytest

NAMES = ("config", "engine", "stream", "trainer")
COMMANDS = {point.name: point.value for point in entry_points(group="linewatch.commands")}
HEAVY = ("torch", "av", "aiortc", "cv2", "scipy", "cupy", "fastapi", "redis", "openvino")

# Imports the module as the command line does, after what every process of ours has imported anyway.
PROBE = """
import json, sys, time
import config.cli
began = time.process_time()
module = __import__(sys.argv[1], fromlist=["HELP"])
took_s = time.process_time() - began
print(json.dumps({
    "took_s": took_s,
    "heavy": sorted(set(sys.argv[2].split()) & set(sys.modules)),
    "has": [name for name in ("HELP", "configure", "main") if hasattr(module, name)],
    "help": module.HELP,
}))
"""


@pytest.mark.parametrize("name", NAMES)
def test_no_other_package_owns_an_import_name_of_ours(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {"linewatch"}


def test_the_installed_package_brings_its_commands() -> None:
    assert "schema" in COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_is_a_module_that_imports_fast_and_light(name: str) -> None:
    probe = subprocess.run(
        [sys.executable, "-c", PROBE, COMMANDS[name], " ".join(HEAVY)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    found = json.loads(probe.stdout)
    assert found["has"] == ["HELP", "configure", "main"]
    assert found["heavy"] == []
    assert found["took_s"] < 0.5
    assert found["help"] == found["help"].strip()
    assert "\n" not in found["help"]
