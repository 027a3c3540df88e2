"""A camera maker's package is installed, and its cameras are sources like ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VENDOR = Path(__file__).parents[1] / "vendor"
LINEWATCH = Path(sys.executable).with_name("linewatch")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the maker's package, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    alone = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *alone]
    subprocess.run([*pip, "--target", folder, VENDOR], check=True)
    return folder


def linewatch(site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site or "")}
    return subprocess.run([LINEWATCH, *arguments], env=env, capture_output=True, text=True, timeout=60)


def config(folder: Path, **source: Any) -> str:
    path = folder / "cameras.yaml"
    cameras = {"top": {"source": {"type": "acme"} | source}}
    path.write_text(json.dumps({"version": 1, "cameras": cameras}))
    return str(path)


def test_its_cameras_send_pictures_and_its_refusals_are_said_in_its_words(site: Path, tmp_path: Path) -> None:
    for source, said in (
        ({"serial": "42"}, "Acme 42, pictures of 64×48"),
        ({"serial": "42", "life": 0}, "Acme 42 was unplugged"),
        ({"serial": "7"}, "no Acme camera with serial number 7"),
        ({"serial": 42}, "takes serial (a text)"),
    ):
        told = linewatch(site, "check", "--json", config(tmp_path, **source))
        assert told.returncode == 0, told.stderr
        assert said in json.loads(told.stdout.splitlines()[-1])["cameras"]["top"]["answer"]


def test_capture_takes_its_pictures(site: Path, tmp_path: Path) -> None:
    how = ["--frames", "3", "--every", "0.05", "--json", "--config", config(tmp_path, serial="42")]
    told = linewatch(site, "capture", "top", *how)
    assert json.loads(told.stdout.splitlines()[-1])["written"] == 3
    assert len(list((tmp_path / "var/pictures/top/good").iterdir())) == 3


def test_editors_know_its_type_and_without_the_package_it_is_unknown(site: Path, tmp_path: Path) -> None:
    assert '"acme"' in linewatch(site, "schema", "config").stdout
    told = linewatch(None, "check", config(tmp_path, serial="42"))
    assert told.returncode == 2 and "cameras.top.source.type" in told.stderr
