"""What the file says of bridges is checked like everything else, with its line, before anything starts."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import bridges
from config.load import ConfigError, parse
from config.settings import Settings, secrets_of
from config.sources import installed
from stream.bridges.modbus import Options as Modbus
from stream.bridges.webhook import Options as Webhook

HEAD = "version: 1\ncameras: {top: {source: {type: pattern}}, side: {source: {type: pattern}}}\nbridges:\n"
SECRET = 'secret: "0123456789abcdef"'


def read(text: str, env: dict[str, str] | None = None) -> Settings:
    return parse(HEAD + text, name="cameras.yaml", folder=Path("/etc/lw"), env=env or {})


WRONG = {
    f'PLC: {{type: webhook, url: "http://h", {SECRET}}}': [
        "cameras.yaml:4: bridges.PLC: is 'PLC', expected 1 to 64 of the letters a-z, digits, _ and -, not - "
        "first"
    ],
    f'b: {{type: webhook, ulr: "http://h", {SECRET}}}': [
        "cameras.yaml:4: bridges.b.ulr: unknown key, did you mean url? (read as a bridge of type webhook)",
        "cameras.yaml:4: bridges.b.url: is missing, expected: http:// or https:// address that "
        "takes the events (read as a bridge of type webhook)",
    ],
    f'b: {{type: webhook, url: "http://u:hunter2hunter2@h/", {SECRET}}}': [
        "cameras.yaml:4: bridges.b.url: holds a user or password, expected them in the key token"
    ],
    f'b: {{type: webhook, url: "ftp://h", {SECRET}}}': [
        "cameras.yaml:4: bridges.b.url: expected http:// or https:// with a host"
    ],
    f'b: {{type: webhook, url: "http://mes..plant-a/", {SECRET}}}': [
        "cameras.yaml:4: bridges.b.url: expected http:// or https:// with a host"
    ],
    f'b: {{type: webhook, url: "http://h/\\x7f", {SECRET}}}': [
        "cameras.yaml:4: bridges.b.url: expected http:// or https:// with a host"
    ],
    f'b: {{type: webhook, url: "http://h", token: "", {SECRET}}}': [
        "cameras.yaml:4: bridges.b.token: can't stand in a header, expected printable ASCII without spaces "
        "around it"
    ],
    'b: {type: webhook, url: "http://h", secret: tiny-one}': [
        "cameras.yaml:4: bridges.b: secret is too short, expected 16 characters or more"
    ],
    f'b: {{type: webhook, url: "http://h", token: hunter2-ü, {SECRET}}}': [
        "cameras.yaml:4: bridges.b.token: can't stand in a header, expected printable ASCII without spaces "
        "around it"
    ],
    f'b: {{type: webhook, url: "http://h", token: "hunter2\\nhunter2", {SECRET}}}': [
        "cameras.yaml:4: bridges.b.token: can't stand in a header, expected printable ASCII without spaces "
        "around it"
    ],
    "b:\n    type: webhook\n    url: http://h\n    timeout_s: 0\n    " + SECRET: [
        "cameras.yaml:7: bridges.b.timeout_s: is 0, expected more than 0"
    ],
    "b: {type: modbus, stations: {top: {address: 100}, side: {address: 163}}}": [
        "cameras.yaml:4: bridges.b: the registers of top (100 to 163) and side (from 163) overlap, "
        "expected apart"
    ],
    "b: {type: modbus, line_address: 110, stations: {top: {address: 100}}}": [
        "cameras.yaml:4: bridges.b: the registers of top (100 to 163) and line_address (from 110) overlap, "
        "expected apart"
    ],
    "b: {type: modbus, stations: {top: {address: 65500}}}": [
        "cameras.yaml:4: bridges.b.stations.top.address: is 65500, expected at most 65472"
    ],
    "b: {type: modbus, stations: {bottom: {address: 100}}}": [
        "cameras.yaml:4: bridges.b.stations.bottom: there is no camera bottom in this file, expected one of "
        "top, side"
    ],
    "b:\n    type: opcua\n    cameras:\n    - tpo\n    - sied\n    - top": [
        "cameras.yaml:7: bridges.b.cameras[0]: there is no camera tpo in this file, did you mean top?",
        "cameras.yaml:8: bridges.b.cameras[1]: there is no camera sied in this file, did you mean side?",
    ],
    "b: {type: modbus, listen: nowhere, stations: {top: {address: 100}}}": [
        "cameras.yaml:4: bridges.b.listen: expected ADDRESS:PORT, for example 127.0.0.1:8080"
    ],
    "b: {type: modbus, handshake: evry, stations: {top: {address: 100}}}": [
        "cameras.yaml:4: bridges.b.handshake: is 'evry', expected reject or every, did you mean every?"
    ],
    'b: {type: opcua, listen: "0.0.0.0:4840"}': [
        "cameras.yaml:4: bridges.b: others reach 0.0.0.0:4840: give it tls, and a users_file or clients, or "
        "listen on 127.0.0.1"
    ],
    "b: {type: opcua, users_file: users.yaml}": [
        "cameras.yaml:4: bridges.b: users_file and clients need tls: passwords are not sent plainly"
    ],
    "b: {type: mqtt, url: 'mqtts://.plant-a'}": [
        "cameras.yaml:4: bridges.b.url: expected mqtt://HOST:PORT or mqtts://HOST:PORT"
    ],
    "b: {type: mqtt, url: 'mqtt://h', password: hunter2hunter2}": [
        "cameras.yaml:4: bridges.b: password needs a username"
    ],
    "b: {type: mqtt, url: 'mqtt://h', prefix: 'a/#'}": [
        "cameras.yaml:4: bridges.b.prefix: does not fit, expected: First levels of every topic"
    ],
    f"b: {{type: webhook, url: 'http://h', {SECRET}, cameras: [tpo]}}": [
        "cameras.yaml:4: bridges.b.cameras[0]: there is no camera tpo in this file, did you mean top?"
    ],
    "b: {type: mqqt}": [
        "cameras.yaml:4: bridges.b.type: no bridge of type 'mqqt' is installed, did you mean mqtt?"
    ],
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(f"  {text}\n")
    assert list(told.value.lines) == WRONG[text]
    assert "hunter2" not in str(told.value)


def test_right_options_are_complete_and_their_secrets_are_known() -> None:
    settings = read(
        "  mes: {type: webhook, url: 'https://mes/x', secret: {env: S}, tls: {ca_file: ca.pem}}\n"
        "  plc: {type: modbus, stations: {side: {address: 100}}, autostart: false}\n",
        {"S": "hunter2hunter2hunter2"},
    )
    mes, plc = settings.bridges["mes"], settings.bridges["plc"]
    assert isinstance(mes.options, Webhook) and isinstance(plc.options, Modbus)
    assert mes.options.tls.ca_file == Path("/etc/lw/ca.pem")
    assert mes.state_dir == Path("/etc/lw/var/bridges")
    assert (mes.autostart, plc.autostart, list(plc.options.named_cameras)) == (True, False, ["side"])
    assert [secret.get_secret_value() for secret in secrets_of(settings)] == ["hunter2hunter2hunter2"]
    assert "hunter2" not in f"{settings!r}{mes.options!r}{settings.model_dump_json()}"


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that brings a sink, in vendor.py."""
    package = tmp_path / "vendor-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[linewatch.sinks]\nhistorian = a_vendors_sink\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "a_vendors_sink", raising=False)
    installed.cache_clear()
    bridges.load.cache_clear()
    yield tmp_path / "a_vendors_sink.py"
    installed.cache_clear()
    bridges.load.cache_clear()


def test_a_sink_that_needs_what_is_not_there_says_what_brings_it(vendor: Path) -> None:
    vendor.write_text(
        "from pydantic import BaseModel as Options\nNEEDS = {'no_such_module': 'vendor[historian]'}\n"
    )
    with pytest.raises(ConfigError) as told:
        read("  h: {type: historian}\n")
    assert list(told.value.lines) == [
        "cameras.yaml:4: bridges.h.type: a bridge of type historian needs no_such_module, which is not "
        f"installed: {shlex.quote(sys.executable)} -m pip install 'vendor[historian]'"
    ]


@pytest.mark.parametrize(
    ("stations", "mistake"),
    [
        (
            "top: {address: 100}, side: {address: 163}",
            "bridges.h: the registers of top (100 to 163) and side",
        ),
        ("bottom: {address: 100}", "bridges.h.stations.bottom: there is no camera bottom in this file"),
    ],
)
def test_what_is_not_installed_hides_no_other_mistake(vendor: Path, stations: str, mistake: str) -> None:
    vendor.write_text("from stream.bridges.modbus import Options\nNEEDS = {'no_such_module': 'vendor'}\n")
    with pytest.raises(ConfigError) as told:
        read(f"  h: {{type: historian, stations: {{{stations}}}}}\n")
    assert len(told.value.lines) == 2
    assert any("needs no_such_module, which is not installed" in line for line in told.value.lines)
    assert any(mistake in line for line in told.value.lines)


def test_a_sink_that_can_not_be_loaded_is_a_sentence(vendor: Path) -> None:
    vendor.write_text("import no_such_module\n")
    with pytest.raises(
        ConfigError, match=r"bridges\.h\.type: the bridge historian can't be loaded: No module"
    ):
        read("  h: {type: historian}\n")
