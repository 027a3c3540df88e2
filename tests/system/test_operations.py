"""A running line as an administrator meets it: systemd, probes, doctor, status, a second start by mistake."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.services import WebSettings
from stream.broker import BrokerError, lock
from stream.outbox import Outbox
from stream.outbox_file import OutboxError
from stream.standing import probe
from tests.ports import free_port

# The kernel refuses folders there, also to root.
NOBODYS = Path("/proc/sys/linewatch")
LINEWATCH = Path(sys.executable).with_name("linewatch")


@dataclass(frozen=True, slots=True)
class Running:
    """A line of one pattern camera without a model, and the socket on which systemd would listen."""

    config: Path
    page: str
    systemd: socket.socket
    process: subprocess.Popen[str]


def linewatch(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINEWATCH, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("line")) as line:
        yield line


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    config = folder / "cameras.yaml"
    config.write_text(
        "version: 1\ncameras: {top: {source: {type: pattern}, fps: 2}}\n"
        f"web: {{listen: '127.0.0.1:{free_port()}', webrtc: {{udp_ports: null}}}}\n"
        "engine: {backend: torch, cache_dir: engine}\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(30)
        env = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "20000000"}
        with (folder / "run.log").open("w") as log:
            process = subprocess.Popen(
                [LINEWATCH, "run", config, "--json"], stdout=subprocess.PIPE, stderr=log, text=True, env=env
            )
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            yield Running(config, told["page"], systemd, process)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def until_said(systemd: socket.socket, fact: bytes) -> None:
    """Reads what systemd is told up to this fact; its time-out fails the test."""
    while fact not in systemd.recv(4096).split(b"\n"):
        pass


def test_systemd_hears_that_we_are_ready_and_live(line: Running) -> None:
    until_said(line.systemd, b"WATCHDOG=1")
    until_said(line.systemd, b"READY=1")


def test_the_probes_answer_and_status_asks_them(line: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("live", "ready", "startup"):
        assert httpx.get(f"{line.page}{name}").json()["ok"]
        assert linewatch("status", line.config, "--probe", name).returncode == 0
    # A container may have a proxy in its environment: it knows nothing of our address.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert linewatch("status", line.config, "--probe", "live").returncode == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{"detail":"Not Found"}', "answers 404"),
        (b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\n[]", "answers 500"),
        (b"-ERR unknown command 'GET'\r\n", "does not answer"),
    ],
)
def test_another_program_at_the_pages_port_is_a_no_in_words(answer: bytes, said: str) -> None:
    def serve(other: socket.socket) -> None:
        asked, _ = other.accept()
        with asked:
            asked.recv(4096)
            asked.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as other, ThreadPoolExecutor(1) as threads:
        served = threads.submit(serve, other)
        assert said in probe(WebSettings(listen=f"127.0.0.1:{other.getsockname()[1]}"), "live")
        served.result(timeout=10)


def test_status_says_each_cameras_state_in_words(line: Running) -> None:
    said = linewatch("status", line.config, "--json")
    told: dict[str, Any] = json.loads(said.stdout)
    assert said.returncode == 1  # a camera without a model is not ready
    assert told["running"] and told["pending"] == 0
    assert told["cameras"]["top"]["state"] in ("no model", "connecting")


@pytest.fixture(params=["a mistake", "no YAML", "renamed"])
def mistaken(line: Running, request: pytest.FixtureRequest) -> Iterator[Running]:
    """The line, while its file can't be used."""
    well, aside = line.config.read_text(), line.config.with_suffix(".aside")
    if request.param == "renamed":
        line.config.rename(aside)
    else:
        line.config.write_text(well.replace("fps", "fsp") if request.param == "a mistake" else f"{well}}}\n")
    yield line
    aside.unlink(missing_ok=True)
    line.config.write_text(well)


def test_a_line_that_goes_on_is_asked_whatever_became_of_its_file(mistaken: Running) -> None:
    said = linewatch("status", mistaken.config, "--json")
    told: dict[str, Any] = json.loads(said.stdout)
    assert said.returncode == 1  # a camera without a model is not ready
    assert told["running"] and told["pending"] == 0 and list(told["cameras"]) == ["top"]
    (mistake,) = told["mistakes"]
    assert mistake.startswith(str(mistaken.config))
    assert f"  {mistake}" in linewatch("status", mistaken.config).stdout.splitlines()
    events = linewatch("events", "--config", mistaken.config, "--json")
    assert (events.returncode, events.stderr) == (0, f"remark: {mistake}\n")


def test_a_mistake_beside_the_page_does_not_make_a_probe_fail(line: Running) -> None:
    well = line.config.read_text()
    try:
        line.config.write_text(well.replace("fps", "fsp"))
        assert linewatch("status", line.config, "--probe", "live").returncode == 0
        line.config.write_text(well.replace("listen:", "lisetn:"))
        wrong = linewatch("status", line.config, "--probe", "live")
        assert wrong.returncode == 2 and "did you mean listen?" in wrong.stderr
    finally:
        line.config.write_text(well)


def test_a_run_file_is_enough_to_ask_and_is_named_where_it_would_help(line: Running, tmp_path: Path) -> None:
    run_file = line.config.parent / "var/broker/run.json"
    told: dict[str, Any] = json.loads(linewatch("status", "--run-file", run_file, "--json").stdout)
    assert told["running"] and told["pending"] == 0 and list(told["cameras"]) == ["top"]
    for command in (["status"], ["events", "--config"]):
        said = linewatch(*command, tmp_path / "cameras.yaml")
        mistake, hint = said.stderr.splitlines()
        assert said.returncode == 2 and "there is no such file" in mistake and "--run-file" in hint


def test_doctor_knows_that_the_line_itself_holds_folder_and_port(line: Running) -> None:
    said = linewatch("doctor", line.config, "--json")
    found = {finding["subject"]: finding for finding in json.loads(said.stdout)["findings"]}
    assert said.returncode == 0, said.stdout
    assert "a second one would not start" in found["instance"]["text"]
    assert found["web.listen"]["level"] == "ok"
    assert "valkey" in found["broker"]["text"]


def test_a_second_line_on_the_same_data_does_not_start(line: Running) -> None:
    said = linewatch("run", line.config)
    assert said.returncode == 1
    (sentence,) = said.stderr.splitlines()
    assert "is in use by another Linewatch; stop that one or name another file" in sentence


def test_a_port_in_use_is_one_sentence(line: Running, tmp_path: Path) -> None:
    other = tmp_path / "cameras.yaml"
    other.write_text(line.config.read_text())
    said = linewatch("run", other)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].endswith("Address already in use; choose another web.listen.")
    assert "Traceback" not in said.stderr


def test_a_folder_that_can_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "cameras.yaml"
    config.write_text(f"version: 1\nweb: {{listen: '127.0.0.1:0'}}\nevidence: {{dir: {NOBODYS}}}\n")
    said = linewatch("run", config)
    assert said.returncode == 1
    (sentence,) = said.stderr.splitlines()
    assert sentence.startswith(f"evidence.dir {NOBODYS}: ") and sentence.endswith("; choose another.")


def test_outbox_and_broker_say_which_key_names_the_folder() -> None:
    with pytest.raises(OutboxError, match=r"name another folder in events\.outbox\.path"):
        Outbox(NOBODYS / "outbox.db")
    with pytest.raises(
        BrokerError, match=r"events\.embedded\.dir /proc/sys/linewatch: .*; name another folder"
    ):
        lock(NOBODYS)


def test_metrics_say_the_version_and_that_the_line_is_ready(line: Running) -> None:
    text = httpx.get(f"{line.page}metrics").text
    assert 'linewatch_build_info{version="' in text
    assert "linewatch_ready 1.0" in text


def test_systemd_hears_that_we_stop_and_status_that_nobody_runs(tmp_path: Path) -> None:
    with running(tmp_path) as line:
        line.process.send_signal(signal.SIGTERM)
        until_said(line.systemd, b"STOPPING=1")
        assert line.process.wait(20) == 0
        said = linewatch("status", line.config)
        assert said.returncode == 1 and "no Linewatch runs here" in said.stdout
        assert "does not answer" in linewatch("status", line.config, "--probe", "live").stdout
