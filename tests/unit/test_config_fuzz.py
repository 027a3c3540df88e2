"""Whatever the file or the environment holds: settings, or a ConfigError with places; never another error."""

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import ConfigError, parse
from config.settings import Settings, json_schema

EXAMPLE = (Path(__file__).parents[2] / "deploy" / "cameras.example.yaml").read_text()
PLACE = re.compile(r"^(cameras\.yaml:[1-9]\d*|environment LINEWATCH_\w+): .")

KEYS = sorted({key for kind in json_schema()["$defs"].values() for key in kind.get("properties", {})})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10**20),
    st.floats(),
    st.sampled_from(
        ["rtsp", "webrtc", "pattern", "file", "latest", "embedded", "1x1", "a@7", "", "rtsp://u:p@h"]
    ),
    st.text(max_size=8),
)


def values(depth: int = 3) -> st.SearchStrategy[Any]:
    if depth == 0:
        return SCALARS
    inside = values(depth - 1)
    names = st.sampled_from([*KEYS, "a", "top"])
    return st.one_of(SCALARS, st.lists(inside, max_size=3), st.dictionaries(names, inside, max_size=4))


def outcome(text: str, env: dict[str, str] | None = None) -> None:
    try:
        assert isinstance(parse(text, name="cameras.yaml", folder=Path("/x"), env=env or {}), Settings)
    except ConfigError as error:
        assert error.lines
        assert all(PLACE.match(line) for line in error.lines), error.lines


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    whole=st.dictionaries(st.sampled_from(list(Settings.model_fields)), values(), max_size=5), camera=values()
)
def test_any_values_under_known_keys(whole: dict[str, Any], camera: Any) -> None:
    outcome(json.dumps({"version": 1, **whole, "cameras": {"a": camera}}))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data())
def test_the_example_with_pieces_cut_out_and_put_in(data: st.DataObject) -> None:
    text = EXAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 40)))
        piece = data.draw(st.one_of(st.text("{}[]:,-#&*!|>'\"%@`\n\t 01ab", max_size=4), st.just("")))
        text = text[:at] + piece + text[end:]
    outcome(text)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    path=st.lists(st.sampled_from([*Settings.model_fields, *KEYS, "a", ""]), min_size=1, max_size=4),
    value=st.one_of(st.text('{}[]":,0ax', max_size=8), values(1).map(json.dumps)),
)
def test_any_variable_over_the_example(path: list[str], value: str) -> None:
    name = "LINEWATCH_" + "__".join(path).upper()
    outcome(EXAMPLE, {name: value, "TOP_PASSWORD": "p"})
