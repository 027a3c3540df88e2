import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.load import ConfigError, load
from config.sources import RtspSource
from stream.demo import stage


def layout(folder: Path, pictures: int = 3) -> Path:
    (folder / "test" / "good").mkdir(parents=True)
    good = folder / "train" / "good"
    good.mkdir(parents=True)
    for n in range(pictures):
        (good / f"{n}.png").write_bytes(b"x" * n)
    return folder


def test_without_data_there_are_two_cameras_at_the_pattern_line() -> None:
    assert [(c.name, c.look) for c in stage.cameras([])] == [("top", "machined"), ("side", "label")]


def test_a_folder_gives_its_camera_a_name_that_the_config_takes(tmp_path: Path) -> None:
    (camera,) = stage.cameras([layout(tmp_path / "Öl Deckel 3")])
    assert camera.name == "l-deckel-3"
    assert camera.frames == 3


def test_one_may_ask_for_fewer_good_pictures_but_not_for_too_few(tmp_path: Path) -> None:
    assert [c.frames for c in stage.cameras([], 24)] == [24, 24]
    assert [c.frames for c in stage.cameras([layout(tmp_path / "x")], 24)] == [3]
    with pytest.raises(stage.DemoError, match="at least 10"):
        stage.cameras([], 9)


def test_a_folder_of_another_layout_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(stage.DemoError, match="no folder train/good"):
        stage.cameras([tmp_path])


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(stage.DemoError, match="same name"):
        stage.cameras([layout(tmp_path / "a" / "x"), layout(tmp_path / "b" / "x")])


def test_the_written_config_is_one_that_an_engineer_could_have_written(tmp_path: Path) -> None:
    secret = stage.password(tmp_path).read_text()
    path = stage.write_config(
        tmp_path, {"top": "rtsp://127.0.0.1:8554/top"}, broker="embedded", web="127.0.0.1:0"
    )
    settings = load(path)
    source = settings.cameras["top"].source
    assert isinstance(source, RtspSource)
    assert source.password == SecretStr(secret)
    assert settings.warnings == ()
    assert settings.models.dir == tmp_path / "models"
    assert secret not in path.read_text()


def test_real_pictures_ask_for_a_level_that_a_few_dozen_can_carry(tmp_path: Path) -> None:
    stage.password(tmp_path)
    asked = {}
    for real in (False, True):
        path = stage.write_config(
            tmp_path, {"top": "rtsp://127.0.0.1/top"}, broker="embedded", web="127.0.0.1:0", real=real
        )
        asked[real] = load(path).cameras["top"].detect.false_alarms_per_hour
    assert asked == {False: 1, True: 60}


def test_a_password_on_the_command_line_is_refused_without_being_said() -> None:
    with pytest.raises(stage.DemoError) as refused:
        stage.check_broker("redis://me:hush@127.0.0.1:6379/0")
    assert "hush" not in str(refused.value)
    stage.check_broker("redis://127.0.0.1:6379/0")


def test_what_the_line_would_not_start_with_is_said_before_minutes_of_training(tmp_path: Path) -> None:
    stage.password(tmp_path)

    def check(web: str, broker: str = "embedded") -> None:
        stage.check_start(
            stage.write_config(tmp_path, {"top": "rtsp://127.0.0.1/top"}, broker=broker, web=web)
        )

    check("127.0.0.1:0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        held = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(stage.DemoError, match=f"demo: --web {held}: another program holds it"):
            check(held)
    for wrong in (("0.0.0.0:0",), ("nowhere",), ("127.0.0.1:0", "foo://x")):
        with pytest.raises(ConfigError):
            check(*wrong)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(stage.DemoError, match="can't be made: Not a directory; name another with --folder"):
        stage.make_folder(tmp_path / "file" / "demo")


def test_the_password_file_is_its_owners_only(tmp_path: Path) -> None:
    assert stage.password(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_model_is_made_anew_when_pictures_or_training_changed(tmp_path: Path) -> None:
    data = layout(tmp_path / "data")
    (camera,) = stage.cameras([data])
    assert not stage.is_trained(tmp_path, camera, ())
    (tmp_path / "models" / camera.name).mkdir(parents=True)
    (tmp_path / "models" / camera.name / "latest").write_text("1")
    stage.remember_trained(tmp_path, camera, ())
    assert stage.is_trained(tmp_path, camera, ())
    assert not stage.is_trained(tmp_path, camera, ("--steps", "9"))
    (data / "train" / "good" / "new.png").write_bytes(b"y")
    (camera,) = stage.cameras([data])
    assert not stage.is_trained(tmp_path, camera, ())
