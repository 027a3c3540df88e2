"""Everything the operator may say, as frozen models: one class a section of the file, a unit in every name.

Read it with `config.load.load`. A `Settings` is complete: what `defaults` says is already in each camera, a
camera's `model.ref` names its model, paths are absolute, secrets are SecretStr. It never changes; a changed
file makes a new one.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from .bridges import BridgeSettings
from .fields import Name, Polygon, Section, is_version
from .services import (
    EngineSettings,
    EventsSettings,
    EvidenceSettings,
    LogsSettings,
    ModelsSettings,
    PartsSettings,
    PicturesSettings,
    TriggersSettings,
    WebSettings,
)
from .sources import PushedSource, SourceSettings, WebrtcSource

CONFIG_VERSION = 1


class ModelChoice(Section):
    """Which model a camera uses, and how one is trained for it. In the file a text alone is the reference."""

    ref: str = Field(default="", pattern=r"^([a-z0-9_-]{1,64}(@(latest|[1-9][0-9]*))?)?$")
    """NAME@latest or NAME@7; empty: the camera's own name @latest. Two cameras may share one."""
    input_px: int = Field(default=256, ge=64, le=1024, multiple_of=32)
    """Side of the square that the network sees, for training; a trained model knows its own."""
    size: Literal["lite", "r18", "wide-lite", "wide"] = "lite"
    """Size of the network, for training."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """In the file a text alone will do: editors shall know."""
        keys = handler.resolve_ref_schema(handler(core))
        reference = keys["properties"]["ref"]
        return {"anyOf": [{**reference, "title": "Reference"}, dict(keys)], "description": cls.__doc__}

    @model_validator(mode="before")
    @classmethod
    def _text_is_the_reference(cls, raw: Any) -> Any:
        return {"ref": str(raw)} if isinstance(raw, str) else raw


class DetectSettings(Section):
    """When a region is a defect, and when a defect opens and closes."""

    false_alarms_per_hour: float = Field(default=1.0, gt=0, le=3600)
    """How often a good part may be called bad; the threshold is computed from it."""
    threshold: float | None = None
    """A raw score instead of the computed threshold, on the scale of the `threshold` in events; raw scores
    may be negative, but it must lie above the median of the model's good pictures; null: computed."""
    min_area_px: int = Field(default=40, ge=1, le=10_000_000)
    """Smaller regions are no defect, in pixels of the frame."""
    on_frames: int = Field(default=2, ge=1, le=1000)
    """So many frames in a row with the region open an incident."""
    off_frames: int = Field(default=8, ge=1, le=10_000)
    """So many frames in a row without it close the incident."""
    cool_down_s: float = Field(default=0.0, ge=0, le=86_400)
    """After an incident none opens at the same place for so long."""
    update_every_s: float = Field(default=1.0, ge=0.1, le=3600)
    """At most one update of an open incident in so long."""


class SeveritySettings(Section):
    """What makes a defect major or critical; it is minor otherwise. A ratio or an area is enough."""

    major_from_ratio: float = Field(default=1.5, ge=1)
    """Score ratio (1.0 = alarm level) from which a defect is major."""
    critical_from_ratio: float = Field(default=2.5, ge=1)
    """Score ratio from which a defect is critical."""
    major_from_area_px: int | None = Field(default=None, ge=1)
    """Area in frame pixels from which a defect is major; null: area says nothing."""
    critical_from_area_px: int | None = Field(default=None, ge=1)
    """Area in frame pixels from which a defect is critical; null: area says nothing."""


class HealthSettings(Section):
    """Limits of a healthy picture. null switches a check off."""

    frozen_after_s: float | None = Field(default=10.0, gt=0)
    """No new content for so long: frozen, though frames arrive."""
    dark_below: float | None = Field(default=0.04, ge=0, le=1)
    """Mean brightness (0 black, 1 white) below which a picture is dark."""
    bright_above: float | None = Field(default=0.96, ge=0, le=1)
    """Mean brightness above which a picture is overexposed."""
    blur_below: float | None = Field(default=0.4, ge=0, le=1)
    """Sharpness, as a share of the trained view's, below which a picture is blurred."""
    moved_above_px: float | None = Field(default=12.0, gt=0)
    """Offset against the trained view, in frame pixels, above which the camera has moved."""
    rate_below_share: float | None = Field(default=0.5, gt=0, le=1)
    """Share of the configured fps below which the frame rate is low."""
    clock_drift_above_s: float | None = Field(default=1.0, gt=0)
    """Difference between the camera's clock and ours that is reported."""
    min_duration_s: float = Field(default=5.0, ge=0, le=3600)
    """A trouble is reported after it lasted so long."""
    max_flaps_per_hour: int = Field(default=12, ge=1)
    """Of a trouble that comes and goes more often the end is told only after a minute without it."""


class Mask(Section):
    """A part of the picture that is never looked at."""

    polygon: Polygon = Field(examples=[[[0, 0], [0.2, 0], [0.2, 0.1]]])
    """Corners [x, y] as shares of the picture."""


class CameraDefaults(Section):
    """What holds for every camera that does not say otherwise."""

    model: ModelChoice = ModelChoice()
    """Which model is used, and how one is trained."""
    detect: DetectSettings = DetectSettings()
    """When a region is a defect."""
    severity: SeveritySettings = SeveritySettings()
    """What makes a defect major or critical."""
    health: HealthSettings = HealthSettings()
    """Limits of a healthy picture."""
    fps: float = Field(default=10.0, gt=0, le=1000)
    """Frames a second that are inspected; what comes above is left out. With `frames: every` nothing is left
    out, and fps only says for how many parts a second the alarm level is reckoned."""
    frames: Literal["latest", "every"] = "latest"
    """latest: a newer frame displaces one that waits; every: triggered parts, none is skipped."""
    tiles: str | None = Field(default=None, pattern=r"^[1-8]x[1-8]$")
    """ROWSxCOLUMNS of 1 to 8 each, such as 2x3; a picture is cut into so many tiles for the network, for
    training and for the model that is used: more for small defects on large pictures; null: 1x1 for training,
    else as the model was trained."""
    down_after_s: float = Field(default=10.0, gt=0, le=3600)
    """Without a picture for so long the camera is down."""


class CameraSettings(CameraDefaults):
    """One camera, complete: what it does not say itself was taken from `defaults`."""

    source: SourceSettings
    """Where the pictures come from."""
    roi: Polygon | None = None
    """Corners [x, y] of the part of the picture that is looked at; null: all of it."""
    masks: dict[Name, Mask] = Field(default_factory=dict, max_length=64)
    """Parts of the picture that are never looked at, by name."""
    enabled: bool = True
    """false: keep the settings, don't connect."""


def _severity_in_order(defaults: CameraDefaults) -> CameraDefaults:
    if wrong := _out_of_order(defaults.severity, defaults.severity.model_fields_set):
        raise ValidationError.from_exception_data("defaults", [wrong])
    return defaults


def _out_of_order(severity: SeveritySettings, written: set[str], *place: str) -> InitErrorDetails | None:
    """The mistake where critical begins below major, at a key that is `written` in the section at `place`."""
    for by in ("ratio", "area_px"):
        keys = f"critical_from_{by}", f"major_from_{by}"
        critical, major = (getattr(severity, key) for key in keys)
        if critical is not None and major is not None and critical < major:
            told = PydanticCustomError(
                "severity",
                "{critical} is {low}, less than {major} {high}: major would never be reached",
                {"critical": keys[0], "low": f"{critical:.9g}", "major": keys[1], "high": f"{major:.9g}"},
            )
            at = next((key for key in keys if key in written), keys[0])
            return {"type": told, "loc": (*place, "severity", at), "input": critical}
    return None


def _complete(cameras: dict[str, CameraSettings], info: ValidationInfo) -> dict[str, CameraSettings]:
    """Put the defaults into every camera. Where `defaults` is wrong itself, that is reported."""
    defaults = info.data.get("defaults")
    if not isinstance(defaults, CameraDefaults):
        return cameras
    complete = {name: _with_defaults(name, camera, defaults) for name, camera in cameras.items()}
    # Only here is a camera's severity whole: it may say one of two keys, and the defaults the other.
    checked = (
        _out_of_order(camera.severity, cameras[name].severity.model_fields_set, name)
        for name, camera in complete.items()
    )
    wrong = [mistake for mistake in checked if mistake]
    told = PydanticCustomError("pushed", "its pictures come with triggers (source pushed): write every")
    for name, camera in complete.items():
        if isinstance(camera.source, PushedSource) and camera.frames != "every":
            wrong.append({"type": told, "loc": (name, "frames"), "input": camera.frames})
    if wrong:
        raise ValidationError.from_exception_data("cameras", wrong)
    return complete


def _with_defaults(name: str, camera: CameraSettings, defaults: CameraDefaults) -> CameraSettings:
    changes: dict[str, Any] = {}
    for key in CameraDefaults.model_fields:
        own, common = getattr(camera, key), getattr(defaults, key)
        if isinstance(own, Section):
            changes[key] = common.updated({k: getattr(own, k) for k in own.model_fields_set})
        elif key not in camera.model_fields_set:
            changes[key] = common
    changes["model"] = changes["model"].updated({"ref": _full_reference(name, changes["model"].ref)})
    return camera.updated(changes)


def _full_reference(name: str, ref: str) -> str:
    ref = ref or name
    return ref if "@" in ref else f"{ref}@latest"


def _pushed_with_a_token(web: WebSettings, info: ValidationInfo) -> WebSettings:
    """A camera's push is let in by its token alone: without one anybody in reach could show us pictures."""
    if web.is_loopback or web.insecure:
        return web
    wrong: list[InitErrorDetails] = []
    for name in takes_any_push(info.data.get("cameras") or {}):
        told = PydanticCustomError(
            "whip_token",
            "camera {camera} takes pushes (whip) from anybody who reaches this address: give its source "
            "a token, or listen on 127.0.0.1",
            {"camera": name},
        )
        wrong.append({"type": told, "loc": (), "input": name})
    if wrong:
        raise ValidationError.from_exception_data("web", wrong)
    return web


def _of_known_cameras(bridges: dict[str, BridgeSettings], info: ValidationInfo) -> dict[str, BridgeSettings]:
    """A bridge for a camera that the file doesn't name would wait for ever."""
    cameras: dict[str, CameraSettings] | None = info.data.get("cameras")
    if cameras is None:
        return bridges
    wrong: list[InitErrorDetails] = []
    for name, bridge in bridges.items():
        named = getattr(bridge.options, "named_cameras", ())
        for camera in named:
            if camera not in cameras:
                key = named[camera] if isinstance(named, Mapping) else ()
                told = PydanticCustomError(
                    "bridge_camera",
                    "there is no camera {camera} in this file",
                    {"camera": camera, "known": list(cameras)},
                )
                wrong.append({"type": told, "loc": (name, bridge.type, *key), "input": camera})
    if wrong:
        raise ValidationError.from_exception_data("bridges", wrong)
    return bridges


def takes_any_push(cameras: Mapping[str, CameraSettings]) -> list[str]:
    """The cameras that wait for a push and ask for no token."""
    return [
        name
        for name, camera in cameras.items()
        if isinstance(camera.source, WebrtcSource)
        and camera.source.mode == "whip"
        and camera.source.token is None
    ]


class Settings(Section):
    """The whole file."""

    version: Annotated[int, is_version(CONFIG_VERSION)] = Field(examples=[CONFIG_VERSION])
    """Version of the file's form; this program reads 1."""
    site: Name = "site"
    """Name of the plant, in stream keys and events."""
    line: Name = "line"
    """Name of the production line, in stream keys and events."""
    defaults: Annotated[CameraDefaults, AfterValidator(_severity_in_order)] = CameraDefaults()
    """What holds for every camera that does not say otherwise."""
    cameras: Annotated[dict[Name, CameraSettings], AfterValidator(_complete)] = Field(
        default_factory=dict, max_length=256
    )
    """The cameras by name."""
    engine: EngineSettings = EngineSettings()
    """The device that inspects."""
    events: EventsSettings = EventsSettings()
    """Where events go."""
    parts: PartsSettings = PartsSettings()
    """Verdicts on triggered parts."""
    triggers: TriggersSettings = TriggersSettings()
    """How triggers find their frame."""
    web: Annotated[WebSettings, AfterValidator(_pushed_with_a_token)] = WebSettings()
    """The live page."""
    models: ModelsSettings = ModelsSettings()
    """Trained models."""
    pictures: PicturesSettings = PicturesSettings()
    """Good pictures, collected for training."""
    evidence: EvidenceSettings = EvidenceSettings()
    """Pictures and heat maps of defects."""
    bridges: Annotated[dict[Name, BridgeSettings], AfterValidator(_of_known_cameras)] = Field(
        default_factory=dict, max_length=32
    )
    """Ways to systems that don't read the event stream."""
    logs: LogsSettings = LogsSettings()
    """What the program says."""

    _warnings: tuple[str, ...] = PrivateAttr(())
    _file: Path | None = PrivateAttr(None)
    _other_files: tuple[Path, ...] = PrivateAttr(())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but unwise, one sentence each, without values; say them once at start."""
        return self._warnings

    @property
    def file(self) -> Path | None:
        """The file that these settings were read from; None if they were made in code."""
        return self._file

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was read for them: the config file and those with secrets."""
        return (*([self._file] if self._file else []), *self._other_files)

    def noted(
        self, file: Path | None, warnings: tuple[str, ...] = (), other_files: tuple[Path, ...] = ()
    ) -> Self:
        """These settings with where they came from, and more that was said and read for them."""
        copy = self.model_copy()
        copy._file, copy._warnings = file, self._warnings + warnings
        copy._other_files = self._other_files + other_files
        return copy


def json_schema() -> dict[str, Any]:
    """JSON Schema of the config file, for editors: put its address into the file's first line."""
    schema = Settings.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:linewatch:config:1",
        **schema,
        "title": "Linewatch configuration",
    }


def secrets_of(settings: Settings) -> list[SecretStr]:
    """Every secret that the settings hold, for `config.logs.configure`."""
    return list(_secrets_in(settings.model_dump()))


def _secrets_in(value: Any) -> Iterator[SecretStr]:
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _secrets_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets_in(item)


def config_sha256(part: BaseModel) -> str:
    """Checksum of settings (the whole, or one camera's) as hex; without the secrets, so it may be shown."""
    text = json.dumps(_without_secrets(part.model_dump(by_alias=True)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _without_secrets(v) for k, v in value.items() if not isinstance(v, SecretStr)}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return value
