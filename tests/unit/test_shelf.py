"""Models as people see them, and the commands that move them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from config.cli import main as linewatch
from engine.artifact import save
from engine.errors import ArtifactError
from engine.shelf import promote_checked, shelves
from engine.versions import latest
from tests.models import tiny_artifact
from trainer.commands.models import describe


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Three versions of "top", the last one latest."""
    for gain in (1.0, 2.0, 3.0):
        save(tiny_artifact(gain, name="top"), tmp_path)
    return tmp_path


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = linewatch(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_every_version_is_listed_and_the_latest_is_marked(models: Path) -> None:
    lines = list(describe(shelves(models)))
    assert [line[:7] for line in lines] == ["  top@1", "  top@2", "* top@3"]


@pytest.mark.parametrize("garbled", ["{", '"good_pictures": "many"'])
def test_a_version_with_a_broken_manifest_is_listed_as_such(models: Path, garbled: str) -> None:
    """On the page one whose number of pictures was no number hid all models."""
    path = models / "top" / "2" / "manifest.json"
    path.write_text(path.read_text().replace('"trained_on": {', f'"trained_on": {{{garbled}'))
    assert [bool(v.broken) for v in shelves(models)["top"]] == [False, True, False]


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(bytes(3)), lambda p: (p.unlink(), p.mkdir())])
def test_a_garbled_latest_is_said_and_hides_no_other_model(
    models: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object]
) -> None:
    save(tiny_artifact(name="box"), models)
    spoil(models / "top" / "latest")
    code, out, _ = _run(capsys, "models", "--models", str(models))
    assert code == 0 and [line[:7].rstrip() for line in out.splitlines()] == [
        *("* box@1", "  top@1", "  top@2", "  top@3", "! top")
    ]
    assert str(models / "top" / "latest") in out.splitlines()[-1]
    code, out, _ = _run(capsys, "models", "--models", str(models), "--json")
    told = json.loads(out.splitlines()[-1])["models"]
    assert [bool(v["no_latest"]) for v in (*told["box"], *told["top"])] == [False, True, True, True]


def test_a_latest_whose_folder_was_removed_is_said(models: Path) -> None:
    shutil.rmtree(models / "top" / "3")
    *lines, last = describe(shelves(models))
    assert [line[:7] for line in lines] == ["  top@1", "  top@2"]
    assert last == "! top  The latest of top is top@3, which is not there any more: promote another one."


def test_a_version_can_be_promoted_where_latest_is_garbled(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / "top" / "latest").write_bytes(bytes(3))
    assert _run(capsys, "promote", "top@2", "--models", str(models))[0] == 0
    assert [v.latest for v in shelves(models)["top"]] == [False, True, False]


def test_models_tells_versions_with_metrics_as_json(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "models", "top", "--models", str(models), "--json")
    told = json.loads(out.splitlines()[-1])["models"]["top"]
    assert code == 0 and [v["version"] for v in told] == [1, 2, 3]
    assert {"version", "latest", "created_at", "size", "metrics", "broken"} <= told[0].keys()


def test_no_models_at_all_is_an_answer_and_not_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _run(capsys, "models", "--models", str(tmp_path / "none"))
    assert code == 0 and "linewatch train" in out


@pytest.mark.parametrize("words", [["models"], ["models", "top"], ["promote", "top@1"], ["rollback", "top"]])
def test_models_that_the_system_will_not_show_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code, _, err = _run(capsys, *words, "--models", str(tmp_path / ("x" * 300)))
    assert code == 2 and "File name too long" in err and len(err.splitlines()) == 1


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[Path]:
    """What lies in `folder` can't be looked at, nor in what else is put into the list; also by root."""
    kept_out = [folder]

    def forbidding(act: Callable[[Path], object]) -> Callable[[Path], object]:
        def forbidden(path: Path) -> object:
            if path.parent in kept_out:
                raise PermissionError(13, "Permission denied", str(path))
            return act(path)

        return forbidden

    for name in ("is_file", "is_dir", "read_bytes"):
        monkeypatch.setattr(Path, name, forbidding(getattr(Path, name)))
    return kept_out


def test_a_version_that_may_not_be_looked_into_is_listed_and_hides_no_other(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, models / "top" / "2")
    assert [bool(v.broken) for v in shelves(models)["top"]] == [False, True, False]
    with pytest.raises(ArtifactError, match=r"2/manifest.json can't be read: Permission denied"):
        promote_checked(models, "top@2")


def test_a_config_file_at_which_nobody_may_look_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As from a folder that is closed to this user; it was a traceback."""
    monkeypatch.setenv("LINEWATCH_CONFIG", 300 * "c")
    code, out, err = _run(capsys, "models")
    assert (code, out) == (2, "") and "File name too long" in err and len(err.splitlines()) == 1


def test_rollback_and_promote_move_the_latest(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--models", str(models), "--json"]
    assert json.loads(_run(capsys, "rollback", "top", *where)[1]) == {"model": "top", "latest": 2}
    assert json.loads(_run(capsys, "promote", "top@1", *where)[1]) == {"model": "top", "latest": 1}
    assert latest(models, "top") == 1


def test_a_damaged_version_is_not_promoted(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = models / "top" / "1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, _, err = _run(capsys, "promote", "top@1", "--models", str(models))
    assert code == 1 and "altered or cut off" in err and latest(models, "top") == 3


def test_a_rollback_leads_to_no_damaged_version(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = models / "top" / "2" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, _, err = _run(capsys, "rollback", "top", "--models", str(models))
    assert code == 1 and "top/2/weights.safetensors" in err and "altered or cut off" in err
    assert latest(models, "top") == 3
    shutil.rmtree(models / "top" / "2")
    assert _run(capsys, "rollback", "top", "--models", str(models))[0] == 0
    assert latest(models, "top") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["promote", "top@9"], "has no version 9"),
        (["promote", "top"], "say which version, such as top@7"),
        (["rollback", "side"], "There is no model side"),
        (["models", "side"], "There is no model side"),
        (["models", "../etc"], "can't be a model's name"),
        (["evaluate", "top@9", "--data", "/"], "has no version 9"),
        (["evaluate", "top", "--data", "/nowhere"], "/nowhere is not a folder"),
        (["evaluate", "/nowhere/top/1", "--data", "/"], "/nowhere/top/1 is no model's folder"),
        (["evaluate", "x" * 300, "--data", "/"], "can't be read: File name too long"),
        (["evaluate", "top", "--data", "x" * 300], "can't be read: File name too long"),
    ],
)
def test_what_is_not_there_is_one_sentence_and_exit_2(
    models: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    code, _, err = _run(capsys, *words, "--models", str(models))
    assert code == 2 and sentence in err and len(err.splitlines()) == 1
