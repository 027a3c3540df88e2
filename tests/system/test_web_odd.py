"""The page's routes with what is rare: many cameras, strange names and times, disks that hang."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from engine.core import Frame
from stream.evidence import Evidence
from stream.web import mjpeg, server
from stream.web.page import LivePage
from tests.webline import FakeLine, inspection

API = "/api/v1"
BOX = (100, 80, 180, 140)


@asynccontextmanager
async def serve(line: FakeLine, evidence: Evidence | None = None) -> AsyncIterator[httpx.AsyncClient]:
    page = LivePage(line.view(), listen="127.0.0.1:0", evidence=evidence)
    await page.start()
    try:
        async with httpx.AsyncClient(base_url=page.url, timeout=5) as http:
            yield http
    finally:
        await page.stop()


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    """With one kept picture."""
    evidence = Evidence(tmp_path / "evidence")
    evidence.start()
    evidence.keep(inspection("top", box=BOX))
    evidence.stop()
    evidence.start()
    yield evidence
    evidence.stop()


async def test_the_grid_may_ask_for_as_many_cameras_as_a_config_file_may_name() -> None:
    names = [f"{number:064}" for number in range(256)]
    async with (
        serve(FakeLine.of(*names)) as http,
        http.stream("GET", f"{API}/mjpeg", params={"camera": names}) as answer,
    ):
        assert answer.status_code == 200


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
async def test_a_time_without_an_offset_is_utc_wherever_the_server_stands(evidence: Evidence) -> None:
    async with serve(FakeLine.of("top"), evidence) as http:
        for seconds, found in ((-60.0, 0), (60.0, 1)):
            at = datetime.fromtimestamp(time.time() + seconds, UTC).replace(tzinfo=None)
            listed = await http.get(f"{API}/evidence", params={"before": at.isoformat()})
            assert len(listed.json()) == found
        assert (await http.get(f"{API}/evidence?before=0001-01-01T00:00:00")).json() == []


async def test_a_disk_that_hangs_holds_up_nobody_else(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    class Hanging:
        def exists(self) -> bool:
            return not go_on.wait(5)

    monkeypatch.setattr(evidence, "path", lambda item, kind: Hanging())
    async with serve(FakeLine.of("top"), evidence) as http:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        path = f"/{evidence.items()[0].image}"
        asked = [asyncio.create_task(http.get(path)) for _ in range(3)]
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        assert (await http.get("/live")).status_code == 200
        await asyncio.to_thread(time.monotonic)  # as the line does, to load a model say
        assert time.monotonic() - begun < 1.0
        go_on.set()
        for answer in await asyncio.gather(*asked):
            assert answer.json()["detail"] == "This picture is not there: it was removed."


async def test_who_takes_a_seat_and_reads_nothing_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "_STUCK_S", 0.3)
    monkeypatch.setattr(server, "_SWEEP_S", 0.1)
    monkeypatch.setattr(server, "_SILENT_S", 0.3)
    page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", max_fps=500, max_viewers=1)
    await page.start()
    noise = np.random.default_rng(1).integers(0, 255, (720, 960, 3), np.uint8)
    port = int(page.url.rsplit(":", 1)[1].strip("/"))
    stuck_in, stuck_out = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    stuck_out.write(f"GET {API}/cameras/top/mjpeg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await stuck_in.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(10):
        while page.stats().viewers or page._server._server.server_state.connections:
            page.show(Frame("top", 1, time.time(), time.monotonic(), noise))
            await asyncio.sleep(0.01)
    stuck_out.close()
    await page.stop()


async def test_who_asks_for_a_picture_and_reads_none_of_it_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SWEEP_S", 0.05)
    monkeypatch.setattr(server, "_SILENT_S", 0.2)
    monkeypatch.setattr(server, "_UNREAD_S", 1.0)
    large = inspection("top", box=BOX, size=(1600, 1200))
    large.frame.pixels[:] = np.random.default_rng(1).integers(0, 255, large.frame.pixels.shape, np.uint8)
    evidence = Evidence(tmp_path / "evidence")
    evidence.start()
    evidence.keep(large)
    evidence.stop()
    page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", evidence=evidence)
    await page.start()
    port = int(page.url.rsplit(":", 1)[1].strip("/"))
    asked = f"GET /{evidence.items()[0].image} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    slow_in, slow_out = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    _, stuck_out = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    slow_out.write(asked.encode())
    stuck_out.write(asked.encode())
    read = 0
    async with asyncio.timeout(20):
        while got := await slow_in.read(100_000):  # who reads slowly gets all of it
            read += len(got)
            await asyncio.sleep(0.05)
        while page._server._server.server_state.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert read > evidence.path(evidence.items()[0], "png").stat().st_size
    slow_out.close()
    stuck_out.close()
    await page.stop()


@pytest.mark.parametrize(
    ("body", "kind"),
    [("", "application/json"), ("{", "application/json"), ('{"user": "a", "password": "b"}', "text/plain")],
)
async def test_a_body_that_is_no_json_object_is_told_as_what_it_should_have_been(
    body: str, kind: str
) -> None:
    async with serve(FakeLine.of("top")) as http:
        answer = await http.post(f"{API}/login", content=body, headers={"content-type": kind})
        assert answer.status_code == 422
        wanted = "the body, expected a JSON object sent as application/json: "
        assert answer.json()["detail"].startswith(wanted)
        named = await http.post(f"{API}/login", json={"user": "a"})
        assert named.json()["detail"] == "password: Field required"
