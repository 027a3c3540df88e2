"""One camera's model on disk: MODELS/NAME/VERSION/ with weights.safetensors and manifest.json.

A version folder appears whole or not at all (temporary folder, then rename) and is never changed afterwards.
MODELS/NAME/latest is a text file with one version number. Nothing here is pickled.
"""

import contextlib
import hashlib
import json
import os
import re
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

from .calibration import Calibration
from .core import ModelInfo
from .errors import ArtifactError

SCHEMA = "linewatch-model/1"
WEIGHTS, MANIFEST, LATEST = "weights.safetensors", "manifest.json", "latest"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TRIES = 100


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A trained model: what the network is, its weights, what good pictures score, what it was made from.

    `version` is 0 and `sha256` "" until it was saved. `state` is the whole network, on the CPU.
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

    def info(self, threshold: float) -> ModelInfo:
        """What an event says of this model at an alarm level of `threshold` (raw map value)."""
        return ModelInfo(self.name, self.version, self.sha256, threshold, self.calibration.median)


def save(artifact: Artifact, models: Path, *, promote: bool = True) -> Path:
    """Write it as the next free version of its name and return that folder, absolute.

    `promote` also moves `latest` to it. Raises ArtifactError for a name that can't be a folder, for weights
    that aren't finite, and when the disk is full or not writable; then nothing of it is left behind.
    """
    check_name(artifact.name)
    _check_finite(artifact.state, f"{artifact.name} was not saved")
    home = models.resolve() / artifact.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home))
        try:
            folder = _publish(artifact, draft, home)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        if promote:
            set_latest(models, artifact.name, int(folder.name))
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
    manifest = _read_manifest(folder / MANIFEST)
    raw = _read_bytes(folder / WEIGHTS)
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        if sha256 != manifest["weights_sha256"]:
            raise ArtifactError(
                f"{folder / WEIGHTS} is not the file that its manifest describes: it was altered or cut off; "
                "go back to an earlier version, or train again."
            )
        artifact = _from_manifest(manifest, load_tensors(raw))
    except SafetensorError as error:
        raise ArtifactError(f"{folder / WEIGHTS} is not a safetensors file: {error}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder / MANIFEST} lacks or garbles {error}; train again.") from error
    _check_finite(artifact.state, f"{folder} can't be used")
    return artifact


def resolve(models: Path, ref: str) -> Path:
    """ "top", "top@latest" or "top@7" to its version folder. Raises ArtifactError if there is none."""
    name, _, version = ref.partition("@")
    check_name(name)
    if version in ("", LATEST):
        version = str(latest(models, name))
    folder = models.resolve() / name / version
    if not version.isdecimal() or not folder.is_dir():
        known = ", ".join(map(str, versions(models, name))) or "none"
        raise ArtifactError(f"There is no model {ref} in {models}; versions of {name}: {known}.")
    return folder


def versions(models: Path, name: str) -> list[int]:
    """Complete versions of a name, ascending; empty if there is no such name."""
    home = models / name
    if not home.is_dir():
        return []
    return sorted(int(p.name) for p in home.iterdir() if p.name.isdecimal() and (p / MANIFEST).is_file())


def latest(models: Path, name: str) -> int:
    """The version that `latest` points at. Raises ArtifactError if there is none."""
    pointer = models / name / LATEST
    try:
        return int(pointer.read_text(encoding="ascii"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"There is no model {name} in {models}; train it with `linewatch train {name}`."
        ) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{pointer} does not hold a version number: {error}.") from error


def set_latest(models: Path, name: str, version: int) -> None:
    """Move `latest` to a version, atomically. Raises ArtifactError if that version isn't complete."""
    if version not in versions(models, name):
        raise ArtifactError(f"There is no version {version} of {name} in {models}.")
    pointer = models / name / LATEST
    draft = pointer.with_name(f".{LATEST}-{os.getpid()}")
    _write_synced(draft, f"{version}\n".encode("ascii"))
    draft.replace(pointer)


def _publish(artifact: Artifact, draft: Path, home: Path) -> Path:
    """Fill the draft and rename it to the next free version; another trainer may take a number meanwhile."""
    raw = save_tensors({key: value.detach().cpu().contiguous() for key, value in artifact.state.items()})
    _write_synced(draft / WEIGHTS, raw)
    done = replace(
        artifact,
        sha256=hashlib.sha256(raw).hexdigest(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    draft.chmod(0o755)
    for _ in range(_TRIES):
        number = max((int(p.name) for p in home.iterdir() if p.name.isdecimal()), default=0) + 1
        text = json.dumps(_to_manifest(replace(done, version=number)), indent=1, sort_keys=True)
        _write_synced(draft / MANIFEST, text.encode())
        with contextlib.suppress(FileExistsError):
            # Renaming over an empty folder would succeed, so the number is claimed by the rename itself.
            draft.rename(home / str(number))
            _sync_folder(home)
            return home / str(number)
    raise ArtifactError(f"No version number was free in {home}.")


def _to_manifest(artifact: Artifact) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": artifact.name,
        "version": artifact.version,
        "size": artifact.size,
        "input_px": artifact.input_px,
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
        name=str(manifest["name"]),
        size=str(manifest["size"]),
        input_px=int(manifest["input_px"]),
        teacher=str(manifest["teacher"]["name"]),
        teacher_sha256=str(manifest["teacher"]["sha256"]),
        state=state,
        calibration=Calibration.from_json(manifest["calibration"]),
        trained_on=dict(manifest["trained_on"]),
        config=dict(manifest["config"]),
        metrics=dict(manifest["metrics"]),
        created_at=str(manifest["created_at"]),
        version=int(manifest["version"]),
        sha256=str(manifest["weights_sha256"]),
    )


def _read_manifest(path: Path) -> Mapping[str, Any]:
    try:
        manifest = json.loads(_read_bytes(path))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}.") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise ArtifactError(f"{path} is not a {SCHEMA} manifest; it was made by another program or version.")
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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_name(name: str) -> None:
    """Raises ArtifactError for a name that can't be a folder and part of a stream's name."""
    if not _NAME.fullmatch(name):
        raise ArtifactError(f"{name!r} can't be a model's name; use a-z, 0-9, _ and -.")


def _check_finite(state: Mapping[str, Tensor], what: str) -> None:
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ArtifactError(f"{what}: its weights {key} hold values that are not finite numbers.")
