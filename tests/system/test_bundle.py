"""The bundle for an island: made here, installed where no network is, and run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Root may take the network away for real; anybody else gets pip's own refusal.
NO_NETWORK = ("unshare", "--net") if os.getuid() == 0 else ()
BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("bundle") / "bundle"
    subprocess.run([ROOT / "deploy/bundle/make.sh", sys.prefix, made, ""], check=True)
    yield made


@pytest.fixture(scope="module")
def linewatch(bundle: Path) -> Path:
    """The command, installed without a network by the Python that this one was made from."""
    folder = bundle.parent / "opt"
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    words = [*NO_NETWORK, bundle / "install.sh", folder]
    subprocess.run(words, env={**BARE, "PYTHON": str(python)}, check=True, umask=0o077)
    return folder / "current" / "bin" / "linewatch"


def test_every_wheel_is_pinned_by_its_hash(bundle: Path) -> None:
    pinned = (bundle / "requirements.txt").read_text().splitlines()
    assert len(pinned) == len(list((bundle / "wheels").iterdir()))
    assert all("--hash=sha256:" in line for line in pinned)


def test_the_pages_and_all_that_they_name_are_in_the_bundle(bundle: Path) -> None:
    deploy = ROOT / "deploy"
    named = [*deploy.glob("*.md"), *deploy.glob("*.png"), deploy / "broker/acl.example"]
    named += [path for path in (deploy / "examples").iterdir() if path.is_file()]
    for path in named:
        assert (bundle / path.relative_to(deploy)).read_bytes() == path.read_bytes()
    assert (bundle / "LINEWATCH.md").read_bytes() == (ROOT / "README.md").read_bytes()
    assert not [*bundle.rglob("__pycache__")] and not [*bundle.rglob("secrets")]


def test_another_user_may_run_what_was_installed_under_a_careful_umask(linewatch: Path) -> None:
    installed = linewatch.parents[1]
    kept_out = [path for path in installed.rglob("*") if path.stat().st_mode & 0o004 == 0]
    assert kept_out == [] and linewatch.stat().st_mode & 0o777 == 0o755


def test_a_doctor_without_a_network_finds_nothing_wrong(linewatch: Path, tmp_path: Path) -> None:
    config = tmp_path / "cameras.yaml"
    config.write_text("version: 1\nweb: {webrtc: {udp_ports: null}}\n")
    said = subprocess.run(
        [*NO_NETWORK, linewatch, "doctor", config, "--json"],
        env=BARE,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(said.stdout)["findings"]
    # Without a network not even 127.0.0.1 is up, so the page's port is the one thing that may fail.
    assert {f["subject"] for f in found if f["level"] == "failed"} <= {"web.listen"}, said.stdout


def test_the_installed_line_runs_and_is_ready(linewatch: Path, tmp_path: Path) -> None:
    config = tmp_path / "cameras.yaml"
    config.write_text(
        "version: 1\ncameras: {top: {source: {type: pattern}}}\nweb: {listen: '127.0.0.1:18943'}\n"
    )
    with (tmp_path / "run.log").open("w") as log:
        line = subprocess.Popen([linewatch, "run", config], env=BARE, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([linewatch, "status", config, "--probe", "ready"], env=BARE).returncode:
            assert line.poll() is None and time.monotonic() < deadline, (tmp_path / "run.log").read_text()
    finally:
        line.terminate()
        assert line.wait(30) == 0


def test_a_second_installation_of_the_same_version_changes_nothing(bundle: Path, linewatch: Path) -> None:
    before = linewatch.stat().st_mtime_ns
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    words = [bundle / "install.sh", linewatch.parents[2]]
    said = subprocess.run(words, env={**BARE, "PYTHON": str(python)}, capture_output=True, text=True)
    assert said.returncode == 0 and "is installed" in said.stdout
    assert linewatch.stat().st_mtime_ns == before


def test_a_bundle_for_another_python_says_so(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\necho 3.4\n")
    other.chmod(0o755)
    words = [bundle / "install.sh", tmp_path / "opt"]
    said = subprocess.run(words, env={**BARE, "PYTHON": str(other)}, capture_output=True, text=True)
    assert said.returncode == 2 and "make a bundle with that Python" in said.stderr
