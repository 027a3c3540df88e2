"""What pydantic found wrong, as sentences for who wrote the file: what is wrong, what is expected."""

import difflib
import pathlib
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .bridges import BridgeSettings, options_of
from .document import Path
from .settings import Settings
from .sources import OWN_SOURCES, PluginSource, source_types

# Values are repeated only where they can't hold a secret by mistake: a number, or a choice from a few words.
_SHOWN = {
    "literal_error",
    "int_parsing",
    "float_parsing",
    "bool_parsing",
    "int_from_float",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "multiple_of",
    "name",
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list",
    "dict": "keys, as in KEY: VALUE",
    "model": "keys, as in KEY: VALUE",
    "path": "a path",
}
_TEXT, _NUMBER = "TEXT", "NUMBER"
_SHAPES = {
    str: _TEXT,
    int: _NUMBER,
    float: _NUMBER,
    pathlib.Path: "PATH",
    SecretStr: {"file": "PATH"},
}


def key_of(error: ErrorDetails) -> Path:
    """Where in the file, without what pydantic adds: the union's tag, and `[key]` for a wrong key."""
    steps = [step for step in error["loc"] if step != "[key]"]
    if len(steps) > 3 and steps[0] == "cameras" and steps[2] == "source":
        del steps[3]
    if _bridge_type(error):
        del steps[2]
    return tuple(steps)


def sentence(error: ErrorDetails) -> str:
    """The mistake without its place. Never holds the value of a secret."""
    kind, path = error["type"], key_of(error)
    match kind:
        case "extra_forbidden":
            return f"unknown key{_known_keys(error, path)}{_read_as(error)}"
        case "missing":
            return f"is missing, {_what_to_write(path, error)}{_read_as(error)}"
        case "union_tag_invalid" | "union_tag_not_found":
            return _wrong_source(error["input"])
        case "literal_error":
            return f"is {_shown(error)}, expected {_choices(path, error)}"
        case "string_pattern_mismatch":
            return f"does not fit, expected: {_described(path, error)}"
        case "string_type" if _is_no_use_in_quotes(path, error):
            return f"{_got(error['input'])}expected: {_described(path, error)}"
        case "bridge_type_unknown":
            return f"no bridge of type {_shown(error)} is installed, {_one_of(error)}"
        case "bridge_camera":
            return f"{error['msg']}, {_one_of(error)}"
        case "too_long":
            return f"has too many entries, expected at most {error['ctx']['max_length']}"
    return _wrong_value(error, path)


def _wrong_value(error: ErrorDetails, path: Path) -> str:
    kind = error["type"]
    shown = f"is {_shown(error)}, " if kind in _SHOWN else ""
    if limit := _limit(error):
        return f"{shown}expected {limit}"
    stem, _, tail = kind.rpartition("_")
    if tail in ("type", "parsing") and stem in _KINDS:
        return f"{shown or _got(error['input'])}expected {_KINDS[stem]}{_quotes(stem, error['input'])}"
    if kind == "int_from_float":
        return f"{shown}expected a whole number"
    if kind == "finite_number":
        return "is not finite, expected a number"
    if kind == "name":
        return f"{shown}{error['msg'].removeprefix('is no valid name, ')}"
    return error["msg"]


def _limit(error: ErrorDetails) -> str | None:
    words = {
        "gt": "more than",
        "ge": "at least",
        "lt": "less than",
        "le": "at most",
        "multiple_of": "a multiple of",
    }
    context = error.get("ctx", {})
    return next((f"{word} {context[key]:g}" for key, word in words.items() if key in context), None)


def _got(value: Any) -> str:
    """What kind of value it is, not which."""
    match value:
        case None:
            return "is empty, "
        case bool():
            return f"is {str(value).lower()}, "
        case int() | float():
            return "is a number, "
        case str():
            return "is a text, "
        case list() | tuple():
            return "is a list, "
        case dict():
            return "has keys of its own, "
    return ""


def _quotes(stem: str, value: Any) -> str:
    return " (put it in quotes)" if stem == "string" and isinstance(value, bool | int | float) else ""


def _shown(error: ErrorDetails) -> str:
    value = error["input"]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.3g}"
    text = value if isinstance(value, str) else type(value).__name__
    return repr(text if len(text) <= 40 else f"{text[:37]}…")


def _did_you_mean(word: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(word.lower(), known, 1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else None


def _one_of(error: ErrorDetails) -> str:
    known = error["ctx"]["known"]
    return _did_you_mean(str(error["input"]), known) or f"expected one of {', '.join(known) or 'none'}"


def _known_keys(error: ErrorDetails, path: Path) -> str:
    model = _model_at(path[:-1], error)
    known = [] if model is None else [info.alias or name for name, info in model.model_fields.items()]
    if wish := _did_you_mean(str(path[-1]), known):
        return f", {wish}"
    return f", expected one of {', '.join(known)}" if known else ""


def _read_as(error: ErrorDetails) -> str:
    tag, bridge = _tag(error), _bridge_type(error)
    if bridge:
        return f" (read as a bridge of type {bridge})"
    return f" (read as a source of type {tag})" if tag else ""


def _tag(error: ErrorDetails) -> str | None:
    loc = error["loc"]
    return str(loc[3]) if len(loc) > 3 and loc[0] == "cameras" and loc[2] == "source" else None


def _wrong_source(value: Any) -> str:
    known = source_types()
    if not isinstance(value, dict):
        return f"{_got(value)}expected keys with a type, as in {{type: rtsp, url: …}}"
    if "type" not in value:
        return f"type is missing, expected one of {', '.join(known)}"
    wish = _did_you_mean(str(value["type"]), known) if isinstance(value["type"], str) else None
    return f"unknown type, {wish or 'expected one of ' + ', '.join(known)}"


def _choices(path: Path, error: ErrorDetails) -> str:
    field = _field_at(path, error)
    words = [str(word) for word in _literals(field.annotation)] if field else []
    wish = _did_you_mean(error["input"], words) if isinstance(error["input"], str) else None
    return " or ".join(words) + (f", {wish}" if wish else "")


def _literals(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for part in get_args(annotation) for word in _literals(part))


def _what_to_write(path: Path, error: ErrorDetails) -> str:
    """The key with a value to go by, where one can be told; else what its description says."""
    field, described = _field_at(path, error), _described(path, error)
    example = None if field is None else _example(field)
    if example in (None, _TEXT, _NUMBER):
        return f"expected: {described}"
    line = yaml.safe_dump({path[-1]: example}, default_flow_style=True, sort_keys=False, width=1000).strip()
    return f"write `{line[1:-1]}`: {described[:1].lower()}{described[1:]}"


def _example(field: FieldInfo) -> Any:
    return field.examples[0] if field.examples else _shape(field.annotation)


def _shape(annotation: Any) -> Any:
    """A value of this kind as one would write it, with words in capitals to be replaced; None: can't tell."""
    kind = _inner(annotation)
    if get_origin(kind) is dict:
        return {"NAME": _shape(get_args(kind)[1])}
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        needed = {key: field for key, field in kind.model_fields.items() if field.is_required()}
        return {field.alias or key: _example(field) for key, field in needed.items()}
    return _SHAPES.get(kind)


def _is_no_use_in_quotes(path: Path, error: ErrorDetails) -> bool:
    """`tiles: 0x3` is the number 3 in YAML, and the text 3 would be no better."""
    field = _field_at(path, error)
    patterns = [getattr(item, "pattern", None) for item in field.metadata] if field else []
    return any(pattern and not re.search(pattern, str(error["input"])) for pattern in patterns)


def _described(path: Path, error: ErrorDetails) -> str:
    field = _field_at(path, error)
    return (field.description or "").strip().rstrip(".").partition(";")[0] if field else "another value"


def _field_at(path: Path, error: ErrorDetails) -> FieldInfo | None:
    model = _model_at(path[:-1], error)
    return None if model is None or not path else _field(model, path[-1])


def _field(model: type[BaseModel], step: str | int) -> FieldInfo | None:
    return next((f for name, f in model.model_fields.items() if step in (name, f.alias)), None)


def _model_at(path: Path, error: ErrorDetails) -> type[BaseModel] | None:
    """The section's class at `path`: through optional fields, dicts by name and lists by index."""
    here: Any = Settings
    for step in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            if (field := _field(here, step)) is None:
                return None
            here = _source_class(_tag(error)) if step == "source" else _inner(field.annotation)
        else:
            here = _inner(next(reversed([arg for arg in get_args(here) if arg is not ...]), None))
        if here is BridgeSettings and (kind := _bridge_type(error)):
            here = options_of(kind)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _bridge_type(error: ErrorDetails) -> str | None:
    """The type as whose options a bridge's keys were read."""
    loc = error["loc"]
    # "[key]": what is wrong is the bridge's own name.
    own = len(loc) > 2 and loc[0] == "bridges" and loc[2] not in ("[key]", *BridgeSettings.model_fields)
    return str(loc[2]) if own else None


def _source_class(tag: str | None) -> type[BaseModel] | None:
    return None if tag is None else OWN_SOURCES.get(tag, PluginSource)


def _inner(annotation: Any) -> Any:
    """Without Annotated and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _inner(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _inner(next(arg for arg in get_args(annotation) if arg is not type(None)))
    return annotation
