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
