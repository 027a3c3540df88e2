"""The demo's folder: which cameras it has, its config file, and whether its models are still the right ones.

FOLDER/cameras.yaml            what an engineer would write for this line
FOLDER/camera.password         read by the config file, 0600
FOLDER/pictures/CAMERA/good    captured good pictures
FOLDER/models/CAMERA/…         trained models, and CAMERA.made-from.json: what they were trained from
FOLDER/schedule/CAMERA.jsonl   what the simulator showed when
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from config.load import load

from ..doctor import services
from ..reading import refuse_wrong_page
from ..sim.folder import Pace
from ..sim.line import CYCLE_S

# The pattern line in two looks, filmed by two cameras.
PATTERN_CAMERAS = {"top": "machined", "side": "label"}
USER = "demo"
FPS = 5
# A reader of H.264 knows that a picture is complete when the next one begins: so cameras film faster.
CAMERA_FPS = 10
_FRAMES = {"pattern": 60, "data": 80}
# What `train` refuses to do with less.
_LEAST_FRAMES = 10
# A few dozen real good pictures say little of rare scores: a level for one false alarm an hour is
# extrapolated so far that it lies above most defects. One a minute is what they can carry.
_FALSE_ALARMS_PER_HOUR = {"pattern": 1, "data": 60}
# A picture of each part: further ones of a part that stands there teach nothing new.
_EVERY_S = {"pattern": CYCLE_S, "data": Pace().learn_dwell_s}
# Raised whenever pictures or training of the demo change, so that an old model is made anew.
_RECIPE = 3


class DemoError(Exception):
    """What stops the demo before it starts; one sentence for a person."""

    user_message = True
    exit_code = 2


@dataclass(frozen=True, slots=True)
class DemoCamera:
    """One camera of the demo: the pattern line seen in a look of its own, or a folder in MVTec layout."""

    name: str
    look: str | None = None
    data: Path | None = None
    wanted: int | None = None

    @property
    def frames(self) -> int:
        """Good pictures to capture: `wanted`, or as many as are usual; a folder with fewer gives what it
        has."""
        if self.data is None:
            return self.wanted or _FRAMES["pattern"]
        return min(self.wanted or _FRAMES["data"], sum(1 for _ in (self.data / "train" / "good").iterdir()))

    @property
    def every_s(self) -> float:
        """Seconds between two good pictures: as long as one thing is shown."""
        return _EVERY_S["pattern" if self.data is None else "data"]


def cameras(data: Sequence[Path], frames: int | None = None) -> list[DemoCamera]:
    """The pattern line's two cameras, or one for each folder, that learn from `frames` good pictures each
    (None: the usual number). Raises DemoError for another layout, or too few pictures."""
    if frames is not None and frames < _LEAST_FRAMES:
        raise DemoError(f"demo: --frames {frames}: training wants at least {_LEAST_FRAMES} good pictures")
    if not data:
        return [DemoCamera(name, look=look, wanted=frames) for name, look in PATTERN_CAMERAS.items()]
    for folder in data:
        for part in ("train/good", "test"):
            if not (folder / part).is_dir():
                raise DemoError(f"demo: {folder} has no folder {part}; --data wants the MVTec layout")
    names = [_camera_name(folder) for folder in data]
    if len(set(names)) < len(names):
        raise DemoError("demo: two of the folders of --data have the same name; rename one")
    return [
        DemoCamera(name, data=folder.resolve(), wanted=frames)
        for name, folder in zip(names, data, strict=True)
    ]


def make_folder(folder: Path) -> None:
    """The demo's own. Raises DemoError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(
            f"demo: the folder {folder} can't be made: {error.strerror}; name another with --folder"
        ) from error


def check_broker(url: str) -> None:
    """Raises DemoError for an address with credentials: everybody on the machine sees a command line."""
    if "@" in urlsplit(url).netloc:
        raise DemoError(
            "demo: --broker takes an address without user and password; set LINEWATCH_EVENTS__USERNAME and "
            "LINEWATCH_EVENTS__PASSWORD instead"
        )


def check_start(config: Path) -> None:
    """Raises ConfigError or DemoError for what the line would refuse to start with after the training."""
    settings = load(config)
    refuse_wrong_page(settings)
    for finding in services.page(settings.web, running=False):
        if (finding.subject, finding.level) == ("web.listen", "failed"):
            raise DemoError(f"demo: --web {finding.text}")


def _camera_name(folder: Path) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-") or "camera"


def password(folder: Path) -> Path:
    """The file with the simulated cameras' password, made once, readable by its owner only."""
    path = folder / "camera.password"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(12) + "@:/%#?")
    return path


def write_config(folder: Path, urls: Mapping[str, str], *, broker: str, web: str, real: bool = False) -> Path:
    """Write cameras.yaml for `urls` (camera → rtsp://…), whole or not at all; relative paths inside. `real`:
    the cameras show pictures of `--data`.
    """
    rate = _FALSE_ALARMS_PER_HOUR["data" if real else "pattern"]
    source = {"type": "rtsp", "username": USER, "password": {"file": "camera.password"}, "transport": "tcp"}
    config: dict[str, Any] = {
        "version": 1,
        "site": "demo",
        "line": "line-1",
        "defaults": {"fps": FPS, "detect": {"false_alarms_per_hour": rate, "on_frames": 2, "off_frames": 4}},
        "cameras": {name: {"source": {**source, "url": url}} for name, url in urls.items()},
        "events": {
            "url": broker,
            "outbox": {"path": "outbox.db"},
            "embedded": {"dir": "broker"},
        },
        "web": {"listen": web},
        "engine": {"cache_dir": "engine"},
        "models": {"dir": "models"},
        "pictures": {"dir": "pictures"},
        "evidence": {"dir": "evidence"},
    }
    path = folder / "cameras.yaml"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        "# Written by `linewatch demo`, anew at every start: copy it elsewhere to change it.\n"
        + yaml.safe_dump(config, sort_keys=False)
    )
    temporary.replace(path)
    return path


def fingerprint(camera: DemoCamera, training: Sequence[str]) -> str:
    """What a model of this camera depends on; another answer means it has to be trained anew."""
    made_from: list[Any] = [_RECIPE, camera.look, camera.frames, FPS, list(training)]
    if camera.data is not None:
        pictures = sorted((camera.data / "train" / "good").iterdir())
        made_from += [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in pictures]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def is_trained(folder: Path, camera: DemoCamera, training: Sequence[str]) -> bool:
    """Whether a finished model stands there that was made from the same."""
    try:
        noted = json.loads(_note(folder, camera).read_text())
    except (OSError, ValueError):
        return False
    whole = (folder / "models" / camera.name / "latest").is_file()
    return whole and bool(noted.get("fingerprint") == fingerprint(camera, training))


def remember_trained(folder: Path, camera: DemoCamera, training: Sequence[str]) -> None:
    """Note what the newest model of this camera was made from."""
    note = _note(folder, camera)
    temporary = note.with_suffix(".tmp")
    temporary.write_text(json.dumps({"fingerprint": fingerprint(camera, training)}))
    temporary.replace(note)


def forget_pictures(folder: Path, camera: DemoCamera) -> None:
    """What an earlier, interrupted demo captured: a new model learns from new pictures only."""
    shutil.rmtree(folder / "pictures" / camera.name, ignore_errors=True)


def _note(folder: Path, camera: DemoCamera) -> Path:
    return folder / "models" / f"{camera.name}.made-from.json"
