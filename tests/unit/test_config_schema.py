"""The JSON Schema that editors use says the same as the program."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from config.settings import Settings, json_schema
from stream.commands.schema import SCHEMAS, schema

EXAMPLE = Path(__file__).parents[2] / "deploy" / "cameras.example.yaml"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(json_schema())
    return Draft202012Validator(json_schema())


def test_the_example_fits_the_schema(validator: Draft202012Validator) -> None:
    assert not list(validator.iter_errors(yaml.safe_load(EXAMPLE.read_text())))


@pytest.mark.parametrize(
    "wrong",
    [
        {"fpss": 3},
        {"fps": 0},
        {"source": {"type": "rtsp", "url": "rtsp://h", "transprot": "tcp"}},
        {"source": {"type": "rtsp", "url": "rtsp://h", "password": {"fil": "x"}}},
        {"source": {"type": "none"}},
        {"model": "Top@newest"},
        {"source": {"type": "webrtc", "ice_servers": ["foo"]}},
        {"source": {"type": "webrtc", "ice_servers": [{"url": "turn:h", "user": "lw"}]}},
    ],
)
def test_what_the_program_refuses_the_schema_refuses(
    wrong: dict[str, Any], validator: Draft202012Validator
) -> None:
    camera = {"source": {"type": "pattern"}}
    assert not list(validator.iter_errors({"version": 1, "cameras": {"a": camera}}))
    assert list(validator.iter_errors({"version": 1, "cameras": {"a": {**camera, **wrong}}}))


@pytest.mark.parametrize("engine", [{"precision": "fp16"}, {"backend": "onnxruntime"}])
def test_the_schema_offers_no_engine_that_nobody_has(
    engine: dict[str, str], validator: Draft202012Validator
) -> None:
    assert list(validator.iter_errors({"version": 1, "engine": engine}))
    assert not list(validator.iter_errors({"version": 1, "engine": dict.fromkeys(engine, "auto")}))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"type": "modbus", "stations": {"top": {"address": 100}}}, {"handshake": "evry"}),
        ({"type": "mqtt", "url": "mqtts://h", "autostart": False}, {"topic": "plain"}),
        ({"type": "opcua", "handshake": "client"}, {"tls": {"cert_file": "a.pem"}}),
        ({"type": "webhook", "url": "https://h", "secret": {"env": "S"}}, {"timeout_s": 0}),
        ({"type": "webhook", "url": "https://h", "secret": {"env": "S"}}, {"type": "webhok"}),
    ],
)
def test_each_type_of_bridge_has_its_own_keys(
    right: dict[str, Any], wrong: dict[str, Any], validator: Draft202012Validator
) -> None:
    assert not list(validator.iter_errors({"version": 1, "bridges": {"b": right}}))
    assert list(validator.iter_errors({"version": 1, "bridges": {"b": right | wrong}}))


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    seen.add(model)
    for found in re.findall(r"config\.\w+\.(\w+)", str([f.annotation for f in model.model_fields.values()])):
        import config.services
        import config.settings
        import config.sources

        for module in (config.settings, config.services, config.sources):
            kind = getattr(module, found, None)
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
                sections(kind, seen)
    return seen


def test_every_key_has_a_description_and_every_number_its_unit() -> None:
    found = sections(Settings, set())
    assert len(found) > 25
    fields = {(kind.__name__, name): f for kind in found for name, f in kind.model_fields.items()}
    assert not [key for key, field in fields.items() if not field.description]
    units = r"(_s|_ms|_px|_mb|_days|_hours?|_ratio|_share|_frames|_fps|fps|_per_hour|_hour)$"
    counts = (
        r"(version|video|threshold|max_batch|threads|port|seed|maxlen|max_waiting|versions|below|above"
        r"|quality)"
    )
    numbers = [
        name for (_, name), f in fields.items() if f.annotation in (int, float, int | None, float | None)
    ]
    assert not [name for name in numbers if not re.search(f"{units}|{counts}", name)]


def test_every_schema_that_is_printed_is_a_valid_one() -> None:
    for name in SCHEMAS:
        Draft202012Validator.check_schema(schema(name))
        json.dumps(schema(name))
