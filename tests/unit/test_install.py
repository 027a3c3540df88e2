"""deploy/bundle/install.sh: which folder gets what, who may run it, and the way back.

With a Python that only says it made an environment; the real one and pip are in tests/system/test_bundle.py.
"""

import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "deploy" / "bundle" / "install.sh"
# Says its version, makes "environments" whose pip notes what it was given, and has all modules.
PYTHON = """#!/bin/sh
case "$1 $2" in
"-c import sys"*) echo 3.11 ;;
"-m venv")
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    printf '#!/bin/sh\\n' >"$3/bin/linewatch"
    chmod a+rx "$3/bin/linewatch"
    ;;
"-m pip") for last; do :; done; cp "$last" "$(dirname "$0")/../installed" ;;
esac
"""


class Machine:
    """One on which bundles are installed."""

    def __init__(self, folder: Path) -> None:
        self.opt = folder / "opt"
        self.bundle, self._python = folder / "bundle", folder / "python3.11"
        self.bundle.mkdir()
        self._python.write_text(PYTHON)
        self._python.chmod(0o755)
        (self.bundle / "install.sh").write_bytes(INSTALL.read_bytes())
        (self.bundle / "python").write_text("3.11\n")

    def install(self, version: str, digest: str, umask: int = 0o022) -> str:
        """Install a bundle with one wheel; what it said."""
        (self.bundle / "requirements.txt").write_text(f"linewatch=={version} --hash=sha256:{digest}\n")
        said = self.start(umask)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def start(self, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
        """Install the bundle as it lies there."""
        return subprocess.run(
            ["sh", self.bundle / "install.sh", self.opt],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(self._python)},
            capture_output=True,
            text=True,
            umask=umask,
        )

    @property
    def current(self) -> str:
        """What `current` has in it."""
        return (self.opt / "current" / "installed").read_text()

    @property
    def installed(self) -> set[str]:
        return {path.name for path in self.opt.iterdir()} - {"current"}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_each_version_stands_beside_the_other(machine: Machine) -> None:
    machine.install("1.0.0", "aa")
    machine.install("1.1.0", "bb")
    assert machine.installed == {"1.0.0", "1.1.0"} and "bb" in machine.current


def test_the_same_bundle_again_changes_nothing(machine: Machine) -> None:
    machine.install("1.0.0", "aa")
    (machine.opt / "1.0.0" / "mine").touch()
    assert "is installed" in machine.install("1.0.0", "aa")
    assert (machine.opt / "current" / "mine").exists() and machine.installed == {"1.0.0"}


def test_another_bundle_of_the_same_version_is_installed_beside_it(machine: Machine) -> None:
    machine.install("1.0.0", "aa")
    said = machine.install("1.0.0", "bb")
    (other,) = machine.installed - {"1.0.0"}
    assert other.startswith("1.0.0-") and len(other) == len("1.0.0-") + 8 and other in said
    assert "bb" in machine.current and "aa" in (machine.opt / "1.0.0" / "installed").read_text()
    assert f"{other} is installed" in machine.install("1.0.0", "bb")


def test_the_first_bundle_of_a_version_can_be_gone_back_to(machine: Machine) -> None:
    machine.install("1.0.0", "aa")
    machine.install("1.0.0", "bb")
    subprocess.run(["ln", "-sfn", "1.0.0", machine.opt / "current"], check=True)
    assert "aa" in machine.current
    machine.install("1.0.0", "bb")
    assert "bb" in machine.current


def test_half_an_installation_is_made_anew(machine: Machine) -> None:
    machine.install("1.0.0", "aa")
    (machine.opt / "1.0.0" / ".whole").unlink()
    (machine.opt / "1.0.0" / "rest").touch()
    machine.install("1.0.0", "bb")
    assert machine.installed == {"1.0.0"} and not (machine.opt / "1.0.0" / "rest").exists()


def test_a_bundle_that_was_copied_half_leaves_what_is_installed(machine: Machine) -> None:
    machine.install("1.0.0", "aa")
    pins = machine.bundle / "requirements.txt"
    pins.write_text("av==17.0 --hash=sha256:bb\nlinewatch==1.1")
    cut_off = machine.start()
    pins.unlink()
    for said in (cut_off, machine.start()):
        assert said.returncode == 2 and "is not whole: copy it again" in said.stderr
        assert machine.installed == {"1.0.0"} and "aa" in machine.current


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(machine: Machine) -> None:
    machine.opt.parent.joinpath("file").touch()
    machine.opt = machine.opt.parent / "file" / "opt"
    (machine.bundle / "requirements.txt").write_text("linewatch==1.0.0 --hash=sha256:aa\n")
    said = machine.start()
    assert said.returncode == 2 and said.stderr.count("\n") == 1 and "start it with sudo" in said.stderr


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_the_service_may_run_what_a_careful_root_installed(machine: Machine, umask: int) -> None:
    machine.install("1.0.0", "aa", umask)
    for path in (machine.opt, *machine.opt.rglob("*")):
        wanted = 0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
        assert path.stat().st_mode & 0o777 == wanted, path
