"""A model on disk is whole, checked, and never half replaced."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_tensors

from engine import artifact, versions
from engine.artifact import Artifact
from engine.calibration import Calibration
from engine.errors import ArtifactError
from engine.model.dmdd import ARCHITECTURE


@pytest.fixture
def made() -> Artifact:
    return Artifact(
        name="top",
        size="lite",
        input_px=256,
        teacher="efficientnet_lite0",
        teacher_sha256="5" * 64,
        state={"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)},
        calibration=Calibration.fit([1.0, 1.2, 1.1, 1.4, 0.9], [1.0, 1.1, 1.0, 1.2, 0.9]),
        trained_on={"good_pictures": 5},
    )


def test_what_is_saved_is_what_is_loaded(made: Artifact, tmp_path: Path) -> None:
    loaded = artifact.load(artifact.save(made, tmp_path))
    assert loaded.version == 1
    assert torch.equal(loaded.state["w"], made.state["w"])
    assert loaded.calibration == made.calibration
    assert (loaded.name, loaded.teacher, loaded.trained_on) == ("top", made.teacher, made.trained_on)
    assert len(loaded.sha256) == 64
    assert loaded.info(2.0).median == made.calibration.median


def test_versions_count_up_and_latest_follows_unless_asked_not_to(made: Artifact, tmp_path: Path) -> None:
    folders = [artifact.save(made, tmp_path, promote=p) for p in (True, True, False)]
    assert [f.name for f in folders] == ["1", "2", "3"]
    assert versions.versions(tmp_path, "top") == [1, 2, 3]
    assert versions.latest(tmp_path, "top") == 2


def test_nothing_is_left_behind_when_the_disk_is_full(
    made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = artifact.save(made, tmp_path)
    before = sorted(p for p in tmp_path.rglob("*"))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"could not be saved.*No space left on device"):
        artifact.save(made, tmp_path)
    assert sorted(p for p in tmp_path.rglob("*")) == before
    assert versions.resolve(tmp_path, "top") == first


def test_a_model_that_is_saved_and_can_not_be_put_to_use_says_so(
    made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    artifact.save(made, tmp_path)
    monkeypatch.setattr("engine.versions.replace_file", full)
    with pytest.raises(
        ArtifactError, match=r"@2 is saved but not in use: .*No space left on device.*promote"
    ):
        artifact.save(made, tmp_path)
    assert versions.latest(tmp_path, "top") == 1
    assert artifact.load(tmp_path / "top" / "2").version == 2


@pytest.mark.parametrize("number", [ARCHITECTURE + 1, None, "2"])
def test_weights_for_another_form_of_the_network_are_refused(
    made: Artifact, tmp_path: Path, number: object
) -> None:
    manifest = artifact.save(made, tmp_path) / "manifest.json"
    said = json.loads(manifest.read_text())
    assert said["architecture"] == ARCHITECTURE
    manifest.write_text(json.dumps({**said, "architecture": number}))
    with pytest.raises(ArtifactError, match="train it again"):
        artifact.load(manifest.parent)


def test_altered_weights_are_refused(made: Artifact, tmp_path: Path) -> None:
    weights = artifact.save(made, tmp_path) / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(ArtifactError, match="altered or cut off"):
        artifact.load(weights.parent)


def put_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Other weights, as if the model had been made with them."""
    raw = save_tensors(state)
    (folder / "weights.safetensors").write_bytes(raw)
    said = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(raw).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(said | {"weights_sha256": digest}))


def test_weights_that_are_not_numbers_are_neither_saved_nor_loaded(made: Artifact, tmp_path: Path) -> None:
    state = {"w": torch.tensor([float("nan")])}
    with pytest.raises(ArtifactError, match="was not saved: its weights w hold values that are not finite"):
        artifact.save(replace(made, state=state), tmp_path)
    assert not list(tmp_path.iterdir())
    folder = artifact.save(made, tmp_path)
    put_weights(folder, state)
    with pytest.raises(ArtifactError, match="can't be used: its weights w hold values that are not finite"):
        artifact.load(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "linewatch-model/9"}, "is not a linewatch-model/1 manifest"),
        ({"input_px": "wide"}, "lacks or garbles"),
        ({"calibration": {}}, r"manifest\.json: The calibration in the manifest can't be read"),
        ({"name": "../../x"}, r"manifest\.json: '\.\./\.\./x' can't be a model's name"),
        ({"name": "\ud800"}, "can't be a model's name"),
        ({"teacher": None}, "lacks or garbles"),
        ({"trained_on": []}, "lacks or garbles"),
        ({"trained_on": {"good_pictures": "many"}}, r"garbles trained_on\.good_pictures; train again"),
        ({"trained_on": {"sha256": ["1", 2]}}, r"garbles trained_on\.sha256; train again"),
        ({"trained_on": {"held_out": "1.png"}}, r"garbles trained_on\.held_out; train again"),
        ({"trained_on": {"calibrated_on": [{"sha256": [[]]}]}}, r"garbles trained_on\.calibrated_on"),
        ({"trained_on": {"calibrated_on": 7}}, "lacks or garbles"),
        ({"input_px": float("inf")}, "lacks or garbles"),
        ({"input_px": 0}, "input_px 0, which is no multiple of 32 up to 1024"),
        ({"input_px": -32}, "input_px -32, which is no multiple"),
        ({"input_px": 5}, "input_px 5, which is no multiple"),
        ({"input_px": 1056}, "input_px 1056, which is no multiple"),
        ({"teacher": {"name": "resnet18", "sha256": "5" * 64}}, "lite, whose teacher is efficientnet_lite0"),
    ],
)
def test_a_garbled_manifest_is_refused(
    made: Artifact, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = artifact.save(made, tmp_path) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=says):
        artifact.load(path.parent)


def test_a_smallest_region_larger_than_the_map_is_refused(made: Artifact, tmp_path: Path) -> None:
    """It would never alarm, or end the device's thread where the number is larger still."""
    path = artifact.save(made, tmp_path) / "manifest.json"
    said = json.loads(path.read_text())
    for least in (256 * 256 + 1, 10**400):
        path.write_text(json.dumps(said | {"calibration": said["calibration"] | {"min_area_px": least}}))
        with pytest.raises(ArtifactError, match="min_area_px above the 65536 cells of a map; train again"):
            artifact.load(path.parent)


def test_a_manifest_that_nests_without_an_end_is_refused(made: Artifact, tmp_path: Path) -> None:
    path = artifact.save(made, tmp_path) / "manifest.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="nests too deeply"):
        artifact.load(path.parent)


def test_weights_in_which_torch_does_not_compute_are_refused(made: Artifact, tmp_path: Path) -> None:
    folder = artifact.save(made, tmp_path)
    put_weights(folder, {"w": torch.ones(2).to(torch.float8_e4m3fn)})
    with pytest.raises(ArtifactError, match=r"weights\.safetensors holds what torch can't use here"):
        artifact.load(folder)


def test_a_missing_file_is_said_plainly(made: Artifact, tmp_path: Path) -> None:
    folder = artifact.save(made, tmp_path)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        artifact.load(folder)


def test_a_draft_of_an_interrupted_run_is_no_version(made: Artifact, tmp_path: Path) -> None:
    artifact.save(made, tmp_path)
    (tmp_path / "top" / ".draft-abc").mkdir()
    assert versions.versions(tmp_path, "top") == [1]
    assert artifact.save(made, tmp_path).name == "2"
