"""`make clean` removes what is made anew, and nothing that a line has learnt or not sent yet."""

import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
ANEW = (
    *(".venv/x", ".venv-peers/x", ".mypy_cache/x", ".ruff_cache/x", ".pytest_cache/x"),
    *(".hypothesis/x", ".import_linter_cache/x", "var/demo/pattern/x", "var/node-red/x", "var/engine/x"),
)
KEPT = (
    *("var/models/top/1/weights.safetensors", "var/pictures/top/good/1.png", "var/evidence/1.jpg"),
    *("var/outbox.db", "var/broker/appendonly.aof", "var/bridges/mes.json", "var/zones.yaml"),
    *("dist/bundle/install.sh", "cameras.yaml"),
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "Makefile").write_bytes(MAKEFILE.read_bytes())
    for name in (*ANEW, *KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def make(clone: Path, target: str) -> str:
    environment = {"PATH": "/usr/bin:/bin"}
    words = ["make", "-C", str(clone), target]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


def test_clean_leaves_what_is_not_made_anew(clone: Path) -> None:
    make(clone, "clean")
    assert [name for name in ANEW if (clone / name).exists()] == []
    assert [name for name in KEPT if not (clone / name).exists()] == []


def test_distclean_names_what_it_removes(clone: Path) -> None:
    said = make(clone, "distclean")
    assert {path.name for path in clone.iterdir()} == {"Makefile", "cameras.yaml"}
    for name in ("var/models", "var/pictures", "var/evidence", "var/outbox.db", "dist/bundle"):
        assert name in said
