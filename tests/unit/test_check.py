"""`linewatch check` of files that can be read: what would keep the line from starting, what is only told."""

import json
from pathlib import Path

import pytest

from config.cli import main
from engine.versions import promote

GONE = "No such file or directory"
CAMERA = "version: 1\ncameras:\n  top:\n    source: {type: pattern}\n"


def config(folder: Path, more: str = "") -> Path:
    path = folder / "cameras.yaml"
    path.write_text(CAMERA + more)
    return path


def have_model(folder: Path, name: str, version: int) -> None:
    place = folder / "var/models" / name / str(version)
    place.mkdir(parents=True)
    (place / "manifest.json").write_text("{}")
    promote(folder / "var/models", name, version)


def test_a_file_without_mistakes_counts_its_cameras(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    have_model(tmp_path, "top", 1)
    path = config(tmp_path)
    assert main(["check", "--offline", str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: read without mistakes; 1 camera\n", "")
    config(tmp_path, "  side: {source: {type: pattern}, enabled: false}\n")
    assert main(["check", "--offline", str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: read without mistakes; 2 cameras\n", "")


def test_a_camera_that_fails_is_no_mistake_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    have_model(tmp_path, "top", 1)
    path = config(tmp_path, "  side: {source: {type: folder, path: nowhere}, model: top}\n")
    assert main(["check", str(path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{path}: read without mistakes; 2 cameras\n")
    assert "  side    FAILED  " in told and "right" not in told
    assert main(["check", "--strict", str(path)]) == 1


@pytest.mark.parametrize("camera", ["source: {type: webrtc}", "source: {type: pushed}, frames: every"])
def test_a_camera_that_sends_to_a_running_line_is_not_waited_for(
    camera: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(f"version: 1\ncameras: {{top: {{{camera}}}}}\n")
    assert main(["check", "--strict", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    answer = "not tried: its pictures are sent to a running line only"
    assert json.loads(out)["cameras"]["top"] == {"ok": True, "answer": answer}
    assert "not inspected; collect good pictures on the page, then `linewatch train top --data " in err
    assert main(["capture", "top", "--config", str(path)]) == 2
    assert "its pictures are sent to a running line only: collect them on the page" in capsys.readouterr().err


PAGES = {
    "listen: '0.0.0.0:8080'": (
        "web.listen: 0.0.0.0:8080 can be reached by others, and there are no users: name a web.users_file, "
        "or listen on 127.0.0.1."
    ),
    "users_file: nobody.yaml": "web.users_file: ",
    "tls: {cert_file: no.pem, key_file: no.pem}": "web.tls: ",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_line_whose_page_is_a_mistake_of_the_file_is_not_started_again_and_again(
    page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The systemd unit restarts on any exit code but 2."""
    assert main(["run", str(config(tmp_path, f"web: {{{page}}}\n"))]) == 2
    assert f"cameras.yaml:5: {PAGES[page]}" in capsys.readouterr().err
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_would_not_start_is_a_mistake_with_its_line(
    page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, f"web:\n  {page}\n")
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"{path}:6: {PAGES[page]}") and err.count("\n") == 1
    assert out == ""


MODELS = {
    "": "there is no model top yet (there is: good): the camera is shown and not inspected; "
    "`linewatch capture top --frames 200 --config {file}`, then `linewatch train top --data ",
    "    model: goood@3\n": "there is no model goood yet (there is: good): the camera is shown and not ins",
    "    model: good@3\n": "the camera is shown and not inspected: Model good has no version 3 in ",
}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_is_not_there_is_a_warning(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    have_model(tmp_path, "good", 1)
    path = config(tmp_path, model)
    assert main(["check", "--offline", "--strict", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    line = f"{path}:{5 if model else 3}: cameras.top.model: {MODELS[model].replace('{file}', str(path))}"
    assert err.startswith(f"warning: {line}") and err.count("\n") == 1
    assert json.loads(out)["warnings"] == [err.removeprefix("warning: ").rstrip()]


def test_a_file_of_the_broker_that_can_not_be_used_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    have_model(tmp_path, "top", 1)
    for scheme, said in (("rediss", ["events.tls.ca_file: the certificate authority "]), ("redis", [])):
        path = config(tmp_path, f"events: {{url: '{scheme}://h', tls: {{ca_file: none.pem}}}}\n")
        assert main(["check", "--offline", str(path)]) == 0
        told = capsys.readouterr().err.replace(f"{tmp_path}/", "").splitlines()
        assert told == [f"warning: cameras.yaml:5: {text}none.pem can't be read: {GONE}" for text in said]


def test_models_that_the_system_will_not_show_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, f"models: {{dir: {'x' * 300}}}\n")
    assert main(["check", "--offline", str(path)]) == 0
    said = capsys.readouterr().err
    assert f"warning: {path}:3: cameras.top.model: the camera is shown and not inspected: " in said
    assert "File name too long" in said and len(said.splitlines()) == 1


def test_an_outbox_that_the_system_will_not_show_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, f"events: {{outbox: {{path: {'x' * 300}}}}}\n")
    assert main(["status", str(path)]) == 1
    said = capsys.readouterr().err
    assert "can't be read: File name too long" in said and len(said.splitlines()) == 1


def test_commands_name_the_file_only_where_they_would_not_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--offline"]) == 0
    assert "`linewatch capture top --frames 200`" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["check", "--offline", str(tmp_path / "cameras.yaml")]) == 0
    assert f"/good --config {tmp_path}/cameras.yaml`" in capsys.readouterr().err
