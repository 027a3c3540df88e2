"""Areas and masks that were drawn on the page: a file of our own beside the operator's.

The later word wins: what was drawn replaces the `roi` and `masks` that the config file had at that time; a
config file whose `roi` or `masks` are others now was edited since, and rules again.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from .fields import Name, Polygon, Section, is_version, other_version
from .settings import CameraSettings, Mask, Settings


class Zones(Section):
    """Where defects of one camera count."""

    roi: Polygon | None = None
    """The part of the picture that is looked at; null: all of it."""
    masks: dict[Name, Mask] = Field(default_factory=dict, max_length=64)
    """Parts that are never looked at, by name."""

    @classmethod
    def of(cls, said: "CameraSettings | Zones") -> "Zones":
        """What a camera's settings say, and nothing more."""
        return Zones(roi=said.roi, masks=said.masks)

    def as_yaml(self) -> str:
        """The keys as they would stand under the camera in the config file."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, default_flow_style=None)

    def fingerprint(self) -> str:
        """The same for the same zones, whatever their masks' order."""
        said = self.model_dump(mode="json")
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


class DrawnZones(Zones):
    """What was drawn."""

    instead_of: Zones
    """What the config file said at that time."""


class ZonesFile(Section):
    """The file's content."""

    version: Annotated[int, is_version(1)] = 1
    """Version of the file's form."""
    cameras: dict[Name, DrawnZones] = Field(default_factory=dict, max_length=1024)
    """By camera; those that the config file doesn't have are kept for when they come back."""


class ZonesError(Exception):
    """The drawn zones can't be read or kept; one sentence that names the file."""

    user_message = True


def read(path: Path) -> ZonesFile:
    """No file: nothing was drawn. Raises ZonesError."""
    try:
        return ZonesFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except FileNotFoundError:
        return ZonesFile()
    except OSError as error:
        raise ZonesError(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        told = other_version(error) or f"{_mistakes(error)}: mend it or delete it"
        raise ZonesError(f"{path}: {told}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 13th month, no UTF-8
        raise ZonesError(f"{path} is not YAML: mend it or delete it") from error


def write(path: Path, content: ZonesFile) -> None:
    """Whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "# Drawn on the page. Without an entry here the config file's roi and masks hold.\n"
    text += yaml.safe_dump(content.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # who may read the config file reads this with it
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def drawn_over(settings: Settings) -> Settings:
    """Settings with what was drawn in place of what the file says, and a warning for each.

    Raises ZonesError.
    """
    path = settings.web.zones_file
    drawn = read(path).cameras
    cameras, warnings = dict(settings.cameras), []
    for name, zones in drawn.items():
        if name not in cameras:
            continue
        if zones.instead_of != Zones.of(cameras[name]):
            warnings.append(
                f"cameras.{name}: roi or masks of the config file were changed after others were drawn on "
                f"the page; the config file's hold, those in {path} don't"
            )
            continue
        warnings.append(f"cameras.{name}: roi and masks as drawn on the page ({path}), not the config file's")
        cameras[name] = cameras[name].updated({"roi": zones.roi, "masks": zones.masks})
    return settings.updated({"cameras": cameras}).noted(settings.file, tuple(warnings), (path,))


def _mistakes(error: ValidationError) -> str:
    told = []
    for detail in error.errors(include_url=False):
        where = ".".join(str(part) for part in detail["loc"] if part != "[key]")
        told.append(f"{where}: {detail['msg']}" if where else detail["msg"])
    return "; ".join(told)
