"""Models and versions as people see them: what is there, what it was measured to be, which one may be
promoted.

The shelf itself (numbers, `latest`, rollback) is engine/versions.py, because a running line moves it as
well.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.artifact import load
from engine.tiles import ONE
from engine.versions import MANIFEST, VersionError, latest, names, promote, resolve, versions

from .evaluate import flat

EVALUATION = "evaluation.json"
_TOLD = ("image_auroc", "pixel_auroc", "ap", "pro", "false_alarm_rate", "recall_at_threshold")


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `broken` says why it can't be read, "" if it can.

    `metrics` as its manifest has them, from training; `evaluated` as the last `linewatch evaluate` found,
    or empty.
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shelves(models: Path, name: str | None = None) -> dict[str, list[Version]]:
    """Name → versions, ascending. With `name` only that one; raises VersionError if it isn't there."""
    if name is not None and not versions(models, name):
        known = ", ".join(names(models)) or "none"
        raise VersionError(f"There is no model {name} in {models}; there is: {known}.")
    wanted = names(models) if name is None else [name]
    return {one: [_read(models, one, number) for number in versions(models, one)] for one in wanted}


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


def describe(found: Mapping[str, Sequence[Version]]) -> Iterator[str]:
    """One line a version, for a terminal; `*` marks the latest."""
    for name, them in found.items():
        for v in them:
            mark = "*" if v.latest else " "
            size = v.size if v.tiles == ONE else f"{v.size} in {v.tiles} tiles"
            told = v.broken or f"{v.created_at}  {size}  {v.good_pictures} good pictures  {_numbers(v)}"
            yield f"{mark} {name}@{v.version}  {told}".rstrip()


def _read(models: Path, name: str, number: int) -> Version:
    """From the manifest alone: quick, whatever the size of the weights."""
    is_latest = latest(models, name) == number
    try:
        manifest = json.loads((models / name / str(number) / MANIFEST).read_bytes())
        return Version(
            number,
            is_latest,
            str(manifest["created_at"]),
            str(manifest["size"]),
            manifest["trained_on"].get("good_pictures"),
            dict(manifest["metrics"]),
            _evaluated(models / name / str(number) / EVALUATION),
            tiles=str(manifest.get("tiles", ONE)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Version(number, is_latest, broken=f"its manifest can't be read: {error!r}")


def _evaluated(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(v: Version) -> str:
    told = {k: number for k, number in flat(v.evaluated).items() if k.split()[-1] in _TOLD} or v.metrics
    return "  ".join(f"{key} {value:.3f}" for key, value in told.items() if isinstance(value, float))
