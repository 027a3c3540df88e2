"""What an earlier version wrote is read, one sample of each; what another one wrote is refused with the mend.

Samples are never changed. A new version number needs a new one beside the old.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from config import zones
from config.load import ConfigError, load
from config.settings import CONFIG_VERSION
from config.zones import ZonesError
from engine import artifact
from engine.errors import ArtifactError
from engine.model.dmdd import ARCHITECTURE
from engine.shelf import shelves
from stream import events, outbox_file
from stream.events import ForeignEntry, parse
from stream.outbox import Outbox
from stream.outbox_file import OutboxError
from stream.web import users
from stream.web.users import UsersError

SAMPLES = Path(__file__).parents[1] / "samples"


def test_there_is_a_sample_of_each_version_that_is_written_now() -> None:
    assert (SAMPLES / f"config-{CONFIG_VERSION}.yaml").exists()
    assert (SAMPLES / f"event-{events.SCHEMA.replace('/', '-')}.json").exists()
    assert (SAMPLES / f"outbox-{outbox_file._VERSION}.sql").exists()
    assert artifact.SCHEMA == "linewatch-model/1"
    assert (SAMPLES / f"model-1-form-{ARCHITECTURE}" / artifact.WEIGHTS).exists()


def test_a_config_file_of_version_1_is_read() -> None:
    settings = load(SAMPLES / "config-1.yaml", {"TOP": "secret"})
    top = settings.cameras["top"]
    assert (top.frames, top.model.ref, list(top.masks)) == ("every", "top@7", ["barcode"])


def test_a_config_file_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("version: 2\n")
    with pytest.raises(
        ConfigError, match=r"is 2, this program reads version 1; use the Linewatch that it is for"
    ):
        load(tmp_path / "c.yaml", {})


def test_what_was_kept_for_the_page_by_another_version_says_what_to_do(tmp_path: Path) -> None:
    """To delete it, as a file with mistakes, would lose what was drawn."""
    kept = tmp_path / "kept.yaml"
    kept.write_text("version: 2\nlater: {}\n")
    said = "its version is 2, this program reads version 1; use the Linewatch that it is for, or rewrite it"
    with pytest.raises(ZonesError, match=rf"kept\.yaml: {said}$"):
        zones.read(kept)
    with pytest.raises(UsersError, match=rf"kept\.yaml can't be read: {said}\.$"):
        users.read(kept)


def test_an_event_of_schema_defect_1_is_read() -> None:
    event = parse((SAMPLES / "event-defect-1.json").read_text())
    assert (event.type, event.camera, event.phase, event.seq) == ("camera.down", "top", "open", 1)


def test_an_event_of_another_schema_says_what_to_do() -> None:
    text = (SAMPLES / "event-defect-1.json").read_text().replace("defect/1", "defect/2")
    with pytest.raises(ForeignEntry, match="update this reader"):
        parse(text)


def test_an_outbox_of_version_1_goes_on_where_it_ended(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        db.executescript((SAMPLES / "outbox-1.sql").read_text())
    db.close()
    box = Outbox(tmp_path / "outbox.db")
    try:
        assert box.pending == 1 and box.kept_count("events") == 1
        assert [event.type for event in box.open_incidents()] == ["camera.down"]
        (waiting,) = box.take("events", 10)
        assert parse(waiting.body).type == "system.started"
    finally:
        box.close()


def test_an_outbox_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(OutboxError, match="start that version once so that it sends what waits"):
        Outbox(tmp_path / "outbox.db")


@pytest.mark.parametrize("form", [1, 2])
def test_a_model_of_an_earlier_form_says_what_to_do(form: int) -> None:
    """Its network computed something else from the same weights."""
    with pytest.raises(ArtifactError, match=rf"was trained for form {form} of the network .* train it again"):
        artifact.load(SAMPLES / f"model-1-form-{form}")


def test_a_model_of_form_3_is_read_whole() -> None:
    found = artifact.load(SAMPLES / "model-1-form-3")
    assert (found.name, found.version, found.input_px) == ("top", 1, 32)
    assert found.calibration.threshold(1.0, 5.0, 2) > found.calibration.median


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("schema", "linewatch-model/2", "another program or version made it; train it again"),
        ("architecture", 99, "use the Linewatch that made it, `linewatch rollback top`, or train it again"),
    ],
)
def test_a_model_of_another_version_says_what_to_do(
    key: str, value: object, said: str, tmp_path: Path
) -> None:
    shutil.copytree(SAMPLES / "model-1-form-3", tmp_path / "top" / "1")
    manifest = tmp_path / "top" / "1" / artifact.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {key: value}))
    with pytest.raises(ArtifactError, match=said):
        artifact.load(tmp_path / "top" / "1")
    (listed,) = shelves(tmp_path)["top"]  # it stood there as if it could be used
    assert said in listed.broken
