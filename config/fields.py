"""The kinds of values in the config file: names, secrets, paths, polygons, and the base of every section.

Validators that need to know where the file lies or what the environment holds take a `ReadContext` as
pydantic's validation context. Without one (settings built in code) paths stay and a secret is its text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from .url import split_credentials

Point = tuple[float, float]

_MAX_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ReadContext:
    """Where relative paths count from, and what `{env: NAME}` reads. `files`: those that were asked for a
    secret, also where there was none.
    """

    folder: Path
    env: Mapping[str, str]
    files: set[Path] = field(default_factory=set)


class Section(BaseModel):
    """Base of every part of the file: no unknown keys, nothing changes after reading, input never echoed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        # A default section meets the context too: its paths count from the file.
        revalidate_instances="always",
        hide_input_in_errors=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """`on_frames: yes` is True in YAML, and pydantic would read it as 1."""
        wanted = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and wanted in (int, float, int | None, float | None):
            raise PydanticCustomError(
                "number", "is {value}, expected a number", {"value": str(value).lower()}
            )
        return value

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """A copy with `changes`, not validated again: for values that were validated already."""
        return self.model_copy(update=dict(changes))


def _context(info: ValidationInfo) -> ReadContext | None:
    return info.context if isinstance(info.context, ReadContext) else None


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    context = _context(info)
    return path if context is None else _placed(path, context)


def _placed(path: Path, context: ReadContext) -> Path:
    """As it counts from the config file's folder, and with `~` and `~USER` as the home that they mean."""
    if "\0" in str(path):
        raise PydanticCustomError("path", "holds a NUL character, which no path has")
    try:
        return context.folder / path.expanduser()
    except RuntimeError:  # nobody of that name has a home here; pydantic would let it through
        raise PydanticCustomError(
            "path",
            "{home} is nobody's home on this machine; write the path in full",
            {"home": path.parts[0]},
        ) from None


def _read_secret_file(name: str, context: ReadContext) -> SecretStr:
    path = _placed(Path(name), context)
    context.files.add(path)
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise PydanticCustomError(
            "secret_file", "secret file {path} can't be read: {why}", {"path": str(path), "why": why}
        ) from None
    return _checked_text(raw, path)


def _checked_text(raw: bytes, path: Path) -> SecretStr:
    said = {"path": str(path)}
    if len(raw) > _MAX_SECRET_BYTES:
        raise PydanticCustomError("secret_file", "secret file {path} is larger than 64 KiB", said)
    try:
        # Editors and `echo` end a file with a newline that is not part of the password; those of Windows
        # begin it with a mark that isn't either.
        text = raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise PydanticCustomError("secret_file", "secret file {path} is not UTF-8 text", said) from None
    if not text:
        raise PydanticCustomError("secret_file", "secret file {path} is empty", said)
    return SecretStr(text)


def _read_secret_env(name: str, context: ReadContext) -> SecretStr:
    if not (text := context.env.get(name)):
        raise PydanticCustomError(
            "secret_env", "the environment variable {name} is not set or empty", {"name": name}
        )
    if not _is_utf8(text):
        raise PydanticCustomError(
            "secret_env",
            "the environment variable {name} is not UTF-8 text; set it in UTF-8, or use {file: PATH}",
            {"name": name},
        )
    return SecretStr(text)


def _is_utf8(text: str) -> bool:
    """Python carries bytes of the environment that are none through a text; nobody could be sent them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_secret(value: object, info: ValidationInfo) -> object:
    """{file: PATH}, {env: NAME} or a literal → SecretStr; an error of it never has the value in it."""
    if value is None or isinstance(value, SecretStr):
        return value
    context = _context(info)
    if isinstance(value, str):
        if not _is_utf8(value):
            raise PydanticCustomError("secret", "is not UTF-8 text, expected one that is, or {file: PATH}")
        return SecretStr(value)
    match value:
        case {"file": str(name), **rest} if not rest:
            return _read_secret_file(name, context or ReadContext(Path(), {}))
        case {"env": str(name), **rest} if not rest:
            return _read_secret_env(name, context or ReadContext(Path(), {}))
    raise PydanticCustomError("secret", "expected {file: PATH}, {env: NAME} or a text in quotes")


def _simple_polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    if any(not 0.0 <= value <= 1.0 for point in points for value in point):
        raise PydanticCustomError(
            "polygon", "a point lies outside the picture, expected x and y from 0 to 1 (shares, not pixels)"
        )
    if not 3 <= len(points) <= 64:
        raise PydanticCustomError(
            "polygon", "has {count} points, expected 3 to 64 points [x, y]", {"count": len(points)}
        )
    if _crosses_itself(points):
        raise PydanticCustomError("polygon", "its sides cross, expected the corners in order around the area")
    if abs(_double_area(points)) < 1e-6:
        raise PydanticCustomError("polygon", "encloses no area, expected corners that span one")
    return points


def _double_area(points: tuple[Point, ...]) -> float:
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)


def _crosses_itself(points: tuple[Point, ...]) -> bool:
    sides = list(zip(points, points[1:] + points[:1], strict=True))
    last = len(sides) - 1
    return any(
        _cross(*sides[i], *sides[j])
        for i in range(len(sides))
        for j in range(i + 2, len(sides))
        if not (i == 0 and j == last)  # first and last side share a corner
    )


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Do the segments ab and cd cross in a point inside both? Signs of the four turns, no division."""
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def is_version(known: int) -> AfterValidator:
    """For the number that stands in a file's `version`: another one is refused."""

    def check(version: int) -> int:
        if version != known:
            raise PydanticCustomError(
                "version",
                "is {given}, this program reads version {known}; "
                "use the Linewatch that it is for, or rewrite it",
                {"given": version, "known": known},
            )
        return version

    return AfterValidator(check)


def other_version(error: ValidationError) -> str | None:
    """What `is_version` found, for a sentence about the file; None: something else is wrong with it."""
    told = (mistake for mistake in error.errors(include_url=False, include_input=False))
    return next((f"its version {mistake['msg']}" for mistake in told if mistake["type"] == "version"), None)


def _checked_name(text: str) -> str:
    # None begins with a hyphen: "-" alone stands for "no camera" in our keys and counters, and a name that
    # begins with one would be read as an option on a command line.
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,63}", text):
        raise PydanticCustomError(
            "name", "is no valid name, expected 1 to 64 of the letters a-z, digits, _ and -, not - first"
        )
    return text


_SECRET_SCHEMA = {
    "anyOf": [
        {"type": "string", "format": "password"},
        *(
            {
                "type": "object",
                "properties": {key: {"type": "string"}},
                "required": [key],
                "additionalProperties": False,
            }
            for key in ("file", "env")
        ),
    ]
}

Name = Annotated[
    str,
    AfterValidator(_checked_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9_][a-z0-9_-]{0,63}$"}),
]
"""A site, line or camera: it becomes part of stream keys, folders and metric labels."""

Secret = Annotated[SecretStr, BeforeValidator(read_secret), WithJsonSchema(_SECRET_SCHEMA)]
"""A password or token: {file: PATH}, {env: NAME}, or a literal (with a warning)."""

LocalPath = Annotated[Path, AfterValidator(_from_folder)]
"""A file or folder on this machine; relative ones count from the config file's folder."""

Polygon = Annotated[tuple[Point, ...], AfterValidator(_simple_polygon)]
"""Corners [x, y] in order around the area, as shares 0 to 1 of the picture's width and height."""


def take_credentials(raw: Any) -> Any:
    """A section with user and password moved out of its `url` into the keys `username` and `password`.

    Where an @ would be left, they can't be told from the host: the `url` stays, for its own check to refuse.
    """
    if not isinstance(raw, dict) or not isinstance(url := raw.get("url"), str):
        return raw
    split = split_credentials(url)
    if "@" in split.url:
        return raw
    found = {"username": split.username, "password": split.password}
    return {
        **raw,
        "url": split.url,
        **{k: v for k, v in found.items() if v is not None and raw.get(k) is None},
    }


def refuse_login(url: str, wish: str = "keys username and password") -> None:
    """Raises pydantic's error, which doesn't show it, for an address with a user or a password in it."""
    if split_credentials(url).url != url:
        raise PydanticCustomError(
            "address", "user and password belong into their own {wish}, not into the address", {"wish": wish}
        )


def plain_address(url: str) -> str:
    """An address without user and password, with a host and a port that there can be, as it is; else
    pydantic's error, which doesn't show it.
    """
    refuse_login(url)
    try:
        parts = urlsplit(url)
        well = bool(parts.hostname) and parts.port != 0
    except ValueError:
        well = False
    if not well:
        raise PydanticCustomError(
            "address", "expected HOST or HOST:PORT after the ://, with a port from 1 to 65535"
        )
    return url
