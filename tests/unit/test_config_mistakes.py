"""What a newcomer gets wrong is answered with what to write."""

from pathlib import Path

import pytest

from config.load import ConfigError, parse
from config.settings import json_schema

HEAD = "version: 1\ncameras:\n  top:\n    source: {type: pattern}\n"

WRITE = {
    "tiles that YAML reads as a hexadecimal number": (
        HEAD + "    tiles: 0x3",
        "cameras.yaml:5: cameras.top.tiles: is a number, expected: ROWSxCOLUMNS of 1 to 8 each, such as 2x3",
    ),
    "tiles out of bounds": (
        HEAD + "    tiles: '0x3'",
        "cameras.yaml:5: cameras.top.tiles: does not fit, expected: ROWSxCOLUMNS of 1 to 8 each, such as 2x3",
    ),
    "a number where quotes help": (
        "version: 1\ncameras: {top: {source: {type: usb, device: 0}}}",
        "cameras.yaml:2: cameras.top.source.device: is a number, expected a text (put it in quotes)",
    ),
    "a tab that indents": (
        "version: 1\ncameras:\n\ttop:\n",
        "cameras.yaml:3: is not valid YAML: found a tab; indent with spaces, and put spaces after a colon",
    ),
    "a tab after a colon": (
        "version: 1\nsite:\ta\n",
        "cameras.yaml:2: is not valid YAML: found a tab; indent with spaces, and put spaces after a colon",
    ),
    "no version": (
        "site: a",
        "cameras.yaml:1: version: is missing, write `version: 1`: version of the file's form",
    ),
    "no source": (
        "version: 1\ncameras: {top: {fps: 3}}",
        "cameras.yaml:2: cameras.top.source: is missing, write "
        "`source: {type: rtsp, url: 'rtsp://10.0.10.10:554/s1'}`: where the pictures come from",
    ),
    "no path": (
        "version: 1\ncameras: {top: {source: {type: folder}}}",
        "cameras.yaml:2: cameras.top.source.path: is missing, write `path: PATH`: the folder "
        "(read as a source of type folder)",
    ),
    "no polygon": (
        HEAD + "    masks: {code: {}}",
        "cameras.yaml:5: cameras.top.masks.code.polygon: is missing, write "
        "`polygon: [[0, 0], [0.2, 0], [0.2, 0.1]]`: corners [x, y] as shares of the picture",
    ),
    "no secret": (
        HEAD + "bridges: {mes: {type: webhook, url: 'http://mes'}}",
        "cameras.yaml:5: bridges.mes.secret: is missing, write `secret: {file: PATH}`: signs every event "
        "(read as a bridge of type webhook)",
    ),
    "no stations": (
        HEAD + "bridges: {plc: {type: modbus}}",
        "cameras.yaml:5: bridges.plc.stations: is missing, write `stations: {NAME: {address: NUMBER}}`: the "
        "cameras, each with its address: a map that stays when a camera is added (read as a bridge of type "
        "modbus)",
    ),
    "a precision in which nothing computes": (
        HEAD + "engine: {precision: int8}",
        "cameras.yaml:5: engine.precision: is 'int8', expected auto or float32 or bf16",
    ),
    "a back end that isn't here": (
        HEAD + "engine: {backend: onnxruntime}",
        "cameras.yaml:5: engine.backend: is 'onnxruntime', expected auto or torch or openvino",
    ),
    "a back end that a GPU hasn't": (
        HEAD + "engine: {backend: openvino, device: 'cuda:1'}",
        "cameras.yaml:5: engine: backend openvino computes on a CPU only, expected device: cpu, or backend: "
        "auto or torch",
    ),
    "a bridge that nobody has": (
        HEAD + "bridges: {plc: {type: profinet}}",
        "cameras.yaml:5: bridges.plc.type: no bridge of type 'profinet' is installed, expected one of "
        "modbus, mqtt, opcua, webhook",
    ),
}


YAML = {
    "a: {b: 1\nc: 2": "3: a comma is missing, or the } for the { on line 2",
    "a: {b: 1, c: 'x y' d: 2}": "2: a comma is missing, or the } for the { on line 2",
    "a: {b: hidden": "2: a comma is missing, or the } for the { on line 2",
    "a: [1, 2}": "2: a comma is missing, or the ] for the [ on line 2",
    "a: 1\n---\nb: 2": "3: a second document begins with this ---, expected one",
    "a: 1\n...\nb: 2": "4: this belongs to no key; check what stands before it",
    "a: 'hidden\nb: 2": "2: the quotation mark has no second one",
    "a: 'hidden\n---\n'": "2: the quotation mark has no second one",
    "a: @hidden": "2: a text that begins with @ % or ` belongs in quotes",
    "a: %hidden": "2: a text that begins with @ % or ` belongs in quotes",
    "a: `hidden": "2: a text that begins with @ % or ` belongs in quotes",
    "a: |hidden": "2: a text that begins with | or > belongs in quotes",
    "a: }hidden": "2: a text that begins with , ] or } belongs in quotes",
    "a: - hidden": "2: a list can't begin here; a text that begins with - belongs in quotes",
    "a: ? hidden": "2: a key can't begin here; a text that begins with ? belongs in quotes",
    "a: !h!hidden": "2: a text that begins with ! belongs in quotes",
    'a: "hid\\den"': "2: a text with a \\ in it belongs in single quotes",
    "a: b: hidden": "2: a colon too many; a text with a colon and a space in it belongs in quotes",
    "a:\n  b: 1\n  c\n  d: 2": "4: a colon is missing after this key",
    "a:\n  b: 1\n c: 2": "4: this belongs to no key; check its indentation, and quotes, commas and brackets",
    "a: &hidden 1\nb: &hidden 2": "3: this & has stood before; a text that begins with & belongs in quotes",
    "a: !<hidden": "2: can't be read from here on; check the quotes, commas and brackets",
}


@pytest.mark.parametrize("text", YAML)
def test_what_is_no_yaml_is_said_plainly_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse(f"version: 1\n{text}", name="cameras.yaml", folder=Path("/etc/linewatch"), env={})
    line, said = YAML[text].split(": ", 1)
    assert told.value.lines == (f"cameras.yaml:{line}: is not valid YAML: {said}",)


@pytest.mark.parametrize("name", WRITE)
def test_a_mistake_says_what_to_write(name: str) -> None:
    text, expected = WRITE[name]
    with pytest.raises(ConfigError) as told:
        parse(text, name="cameras.yaml", folder=Path("/etc/linewatch"), env={})
    assert told.value.lines == (expected,)


def test_a_threshold_may_be_negative_and_its_description_says_on_which_scale_it_is() -> None:
    settings = parse(HEAD + "    detect: {threshold: -2}", name="cameras.yaml", folder=Path("/"), env={})
    assert settings.cameras["top"].detect.threshold == -2
    described = json_schema()["$defs"]["DetectSettings"]["properties"]["threshold"]["description"]
    assert "raw scores may be negative" in " ".join(described.split())
