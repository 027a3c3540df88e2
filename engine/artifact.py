"""One camera's model on disk: MODELS/NAME/VERSION/ with weights.safetensors and manifest.json.

A version folder appears whole or not at all (temporary folder, then rename) and is never changed afterwards.
Which versions there are and which is `latest` is in versions.py. Nothing here is pickled.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from . import versions
from .calibration import Calibration, CalibrationError
from .core import ModelInfo
from .errors import ArtifactError
from .model.dmdd import ARCHITECTURE, SIZES
from .tiles import ONE, Tiling
from .versions import MANIFEST, VersionError, check_name
from .zones import Areas

SCHEMA = "linewatch-model/1"
WEIGHTS = "weights.safetensors"
# Lists of texts in `trained_on`.
_TEXTS = ("training", "held_out", "notes", "sha256")
# What manifests mean that say nothing: the number came after the first models.
_FIRST_ARCHITECTURE = 1
# Of the network's input: what five halvings leave whole, and as large as training allows.
_STEP_PX, _LARGEST_PX = 32, 1024


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A trained model: what the network is, its weights, what good pictures score, what it was made from.

    `version` is 0 and `sha256` "" until it was saved. `state` is the whole network, on the CPU. `tiles` is
    ROWSxCOLUMNS: at which scale the network learnt to look.
    """

    name: str
    size: str
    input_px: int
    teacher: str
    teacher_sha256: str
    state: Mapping[str, Tensor]
    calibration: Calibration
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""
    version: int = 0
    sha256: str = ""
    tiles: str = ONE

    @property
    def tiling(self) -> Tiling:
        """How a picture is cut for the network. Raises ValueError for tiles that can't be."""
        return Tiling.of(self.input_px, self.tiles)

    @property
    def areas(self) -> Areas:
        """Where on the picture counted when the alarm level was set. Raises ValueError."""
        return Areas.from_json(self.trained_on.get("areas") or {})

    def info(self, threshold: float) -> ModelInfo:
        """What an event says of this model at an alarm level of `threshold` (raw map value)."""
        return ModelInfo(self.name, self.version, self.sha256, threshold, self.calibration.median)


def save(artifact: Artifact, models: Path, *, promote: bool = True) -> Path:
    """Write it as the next free version of its name and return that folder, absolute.

    `promote` also moves `latest` to it. Raises ArtifactError for a name that can't be a folder, for weights
    that aren't finite, and when the disk is full or not writable; then nothing of it is left behind, unless
    it says that the version is saved.
    """
    check_name(artifact.name)
    _check_finite(artifact.state, f"{artifact.name} was not saved")
    home = models.resolve() / artifact.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home))
        try:
            folder = _publish(artifact, draft, models.resolve())
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        if promote:
            _promote(models, artifact.name, int(folder.name))
    except OSError as error:
        raise ArtifactError(
            f"The model {artifact.name} could not be saved in {home}: {error.strerror}. "
            "Earlier versions are untouched."
        ) from error
    return folder


def load(folder: Path) -> Artifact:
    """Read a version folder and check all of it. Raises ArtifactError, which says what is wrong with which
    file.
    """
    try:
        return _read(folder)
    except (CalibrationError, VersionError) as error:
        raise ArtifactError(f"{folder / MANIFEST}: {error}") from error
    except SafetensorError as error:
        raise ArtifactError(f"{folder / WEIGHTS} is not a safetensors file: {error}.") from error
    except RuntimeError as error:
        # Numbers of a kind that it can't compute with, or no memory for them.
        raise ArtifactError(f"{folder / WEIGHTS} holds what torch can't use here: {error}.") from error
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder / MANIFEST} lacks or garbles {error}; train again.") from error


def _read(folder: Path) -> Artifact:
    manifest = read_manifest(folder / MANIFEST)
    raw = _read_bytes(folder / WEIGHTS)
    sha256 = hashlib.sha256(raw).hexdigest()
    if sha256 != manifest["weights_sha256"]:
        raise ArtifactError(
            f"{folder / WEIGHTS} is not the file that its manifest describes: it was altered or cut off; "
            "go back to an earlier version, or train again."
        )
    artifact = _from_manifest(manifest, load_tensors(raw))
    _check_form(artifact, folder / MANIFEST)
    _check_finite(artifact.state, f"{folder} can't be used")
    return artifact


def origin(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`trained_on` of a manifest. Raises ValueError, or what a lookup does, where what programs read of it is
    of another kind than they expect.
    """
    on: Mapping[str, Any] = manifest["trained_on"]
    Areas.from_json(on.get("areas") or {})
    if not isinstance(on.get("good_pictures"), int | None):
        raise ValueError("trained_on.good_pictures")
    said = {key: on.get(key, []) for key in _TEXTS}
    said["calibrated_on"] = [text for added in on.get("calibrated_on", []) for text in added["sha256"]]
    for key, texts in said.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"trained_on.{key}")
    return dict(on)


def _publish(artifact: Artifact, draft: Path, models: Path) -> Path:
    """Fill the draft and move it to the next free version."""
    raw = save_tensors({key: value.detach().cpu().contiguous() for key, value in artifact.state.items()})
    _write_synced(draft / WEIGHTS, raw)
    done = replace(
        artifact,
        sha256=hashlib.sha256(raw).hexdigest(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    draft.chmod(0o755)

    def label(number: int) -> None:
        text = json.dumps(_to_manifest(replace(done, version=number)), indent=1, sort_keys=True)
        _write_synced(draft / MANIFEST, text.encode())

    return versions.place(draft, models, artifact.name, label)


def _promote(models: Path, name: str, version: int) -> None:
    try:
        versions.promote(models, name, version)
    except VersionError as error:
        raise ArtifactError(
            f"{name}@{version} is saved but not in use: {error} Then take it: "
            f"`linewatch promote {name}@{version}`."
        ) from error


def _to_manifest(artifact: Artifact) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "architecture": ARCHITECTURE,
        "name": artifact.name,
        "version": artifact.version,
        "size": artifact.size,
        "input_px": artifact.input_px,
        "tiles": artifact.tiles,
        "teacher": {"name": artifact.teacher, "sha256": artifact.teacher_sha256},
        "weights_sha256": artifact.sha256,
        "calibration": artifact.calibration.to_json(),
        "trained_on": dict(artifact.trained_on),
        "config": dict(artifact.config),
        "metrics": dict(artifact.metrics),
        "created_at": artifact.created_at,
    }


def _from_manifest(manifest: Mapping[str, Any], state: Mapping[str, Tensor]) -> Artifact:
    return Artifact(
        name=check_name(str(manifest["name"])),
        size=str(manifest["size"]),
        input_px=int(manifest["input_px"]),
        teacher=str(manifest["teacher"]["name"]),
        teacher_sha256=str(manifest["teacher"]["sha256"]),
        state=state,
        calibration=Calibration.from_json(manifest["calibration"]),
        trained_on=origin(manifest),
        config=dict(manifest["config"]),
        metrics=dict(manifest["metrics"]),
        created_at=str(manifest["created_at"]),
        version=int(manifest["version"]),
        sha256=str(manifest["weights_sha256"]),
        # Models of before tiles say nothing of them.
        tiles=str(Tiling.of(int(manifest["input_px"]), manifest.get("tiles", ONE))),
    )


def read_manifest(path: Path) -> Mapping[str, Any]:
    """A version's manifest, if it is one of this program's kind. Raises ArtifactError."""
    try:
        manifest = json.loads(_read_bytes(path))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}.") from error
    except RecursionError as error:
        raise ArtifactError(f"{path} is no manifest, it nests too deeply; train again.") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise ArtifactError(
            f"{path} is not a {SCHEMA} manifest; another program or version made it; train it again."
        )
    if (made_for := manifest.get("architecture", _FIRST_ARCHITECTURE)) != ARCHITECTURE:
        newer = isinstance(made_for, int) and made_for > ARCHITECTURE
        back = f"use the Linewatch that made it, `linewatch rollback {path.parent.parent.name}`, or "
        raise ArtifactError(
            f"{path.parent} was trained for form {made_for} of the network and this program has form "
            f"{ARCHITECTURE}, in which its weights mean something else; "
            f"{back if newer else ''}train it again."
        )
    return manifest


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}.") from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _check_form(artifact: Artifact, manifest: Path) -> None:
    """What would fail deep inside the network. Whether there is such a size, whoever builds it says."""
    if artifact.input_px % _STEP_PX or not _STEP_PX <= artifact.input_px <= _LARGEST_PX:
        raise ArtifactError(
            f"{manifest} says input_px {artifact.input_px}, which is no multiple of {_STEP_PX} up to "
            f"{_LARGEST_PX}; train again."
        )
    if artifact.calibration.min_area_px > (cells := artifact.input_px**2):
        raise ArtifactError(f"{manifest} says a min_area_px above the {cells} cells of a map; train again.")
    spec = SIZES.get(artifact.size)
    if spec is not None and artifact.teacher != spec.teacher:
        raise ArtifactError(
            f"{manifest} names the teacher {artifact.teacher} and the size {artifact.size}, whose teacher is "
            f"{spec.teacher}; train again."
        )


def _check_finite(state: Mapping[str, Tensor], what: str) -> None:
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ArtifactError(f"{what}: its weights {key} hold values that are not finite numbers.")
