"""Models and versions as people see them: what is there, what it was measured to be, which one may be
promoted.

The numbers themselves, `latest` and rollback are in versions.py.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .artifact import load, origin, read_manifest
from .errors import ArtifactError
from .tiles import ONE
from .versions import (
    MANIFEST,
    VersionError,
    earlier,
    latest,
    names,
    promote,
    readable,
    resolve,
    rollback,
    versions,
)

EVALUATION = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `broken` says why it can't be used, as far as its manifest tells, "" if it can.

    `metrics` as its manifest has them, from training; `evaluated` as the last `linewatch evaluate` found,
    or empty. `no_latest` says what is wrong with the pointer to the latest, of every version of such a model
    the same.
    """

    version: int
    latest: bool
    created_at: str = ""
    size: str = ""
    good_pictures: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    evaluated: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""
    tiles: str = ONE
    no_latest: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shelves(models: Path, name: str | None = None) -> dict[str, list[Version]]:
    """Name → versions, ascending. With `name` only that one; raises VersionError if it isn't there, or if the
    folder can't be read. What is garbled of one model is said with its versions, and hides no other.
    """
    with readable(models):
        if name is not None and not versions(models, name):
            known = ", ".join(names(models)) or "none"
            raise VersionError(f"There is no model {name} in {models}; there is: {known}.")
        wanted = names(models) if name is None else [name]
        return {one: _shelf(models, one) for one in wanted}


def promote_checked(models: Path, ref: str) -> tuple[str, int]:
    """Make "top@7" the latest after reading all of it. Raises VersionError, or ArtifactError for a damaged
    one.
    """
    name, _, version = ref.partition("@")
    if not version.isdecimal():
        raise VersionError(f"{ref!r}: say which version, such as {name or 'top'}@7.")
    load(resolve(models, ref))
    promote(models, name, int(version))
    return name, int(version)


def rollback_checked(models: Path, name: str, seen: int | None = None) -> int:
    """Go back to the version before, from `seen` if that is given, after reading all of it, and return it.
    Raises as `promote_checked`.
    """
    with readable(models):
        version = earlier(models, name)
        if version is not None:
            load(models / name / str(version))
        return rollback(models, name, seen)


def _shelf(models: Path, name: str) -> list[Version]:
    try:
        now, why = latest(models, name), ""
    except VersionError as error:
        now, why = None, str(error)
    there = versions(models, name)
    if now is not None and now not in there:
        why = f"The latest of {name} is {name}@{now}, which is not there any more: promote another one."
    return [replace(_read(models, name, number, number == now), no_latest=why) for number in there]


def _read(models: Path, name: str, number: int, is_latest: bool) -> Version:
    """From the manifest alone: quick, whatever the size of the weights."""
    try:
        manifest = read_manifest(models / name / str(number) / MANIFEST)
        return Version(
            number,
            is_latest,
            str(manifest["created_at"]),
            str(manifest["size"]),
            origin(manifest).get("good_pictures"),
            dict(manifest["metrics"]),
            _evaluated(models / name / str(number) / EVALUATION),
            tiles=str(manifest.get("tiles", ONE)),
        )
    except ArtifactError as error:
        return Version(number, is_latest, broken=str(error))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Version(number, is_latest, broken=f"its manifest can't be read: {error!r}")


def _evaluated(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
