"""The page's server as a browser meets it: a real uvicorn, real sockets, a real HTTP client."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator

import av
import cv2
import httpx
import numpy as np
import pytest
import pytest_asyncio

from engine.core import Frame
from stream.web.errors import ListenError
from stream.web.page import LivePage
from stream.web.server import check_listen
from tests.webline import FakeLine, incident, inspection

API = "/api/v1"


@pytest.fixture
def line() -> FakeLine:
    return FakeLine.of("top", "side")


@pytest_asyncio.fixture
async def page(line: FakeLine) -> AsyncIterator[LivePage]:
    page = LivePage(line.view(), listen="127.0.0.1:0", max_fps=500)
    await page.start()
    yield page
    await page.stop()


@pytest_asyncio.fixture
async def http(page: LivePage) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=page.url, timeout=5) as client:
        yield client


def port_of(page: LivePage) -> int:
    return int(page.url.rsplit(":", 1)[1].strip("/"))


def decode(jpeg: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return picture


async def parts(answer: httpx.Response) -> AsyncIterator[tuple[dict[str, str], bytes]]:
    """Read multipart as RFC 2046 says it, by content length."""
    rest = b""
    async for chunk in answer.aiter_bytes():
        rest += chunk
        while b"\r\n\r\n" in rest:
            head, body = rest.split(b"\r\n\r\n", 1)
            headers = dict(row.split(": ", 1) for row in head.decode().split("\r\n") if ": " in row)
            length = int(headers["Content-Length"])
            if len(body) < length:
                break
            yield headers, body[:length]
            rest = body[length:]


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, object]]:
    async for row in answer.aiter_lines():
        if row.startswith("data: "):
            yield json.loads(row.removeprefix("data: "))


async def test_mjpeg_parts_are_jpegs_of_what_was_shown(page: LivePage, http: httpx.AsyncClient) -> None:
    page.show(inspection(box=(100, 80, 180, 140)))
    async with http.stream("GET", f"{API}/mjpeg?camera=top") as answer:
        assert answer.headers["content-type"].startswith("multipart/x-mixed-replace; boundary=")
        headers, jpeg = await anext(parts(answer))
        assert headers["X-Camera"] == "top"
        picture = decode(jpeg)
        assert picture.shape == (240, 320, 3)
        red, green = picture[100:120, 120:160, 0].mean(), picture[100:120, 120:160, 1].mean()
        assert red > green + 60


async def test_the_stream_for_an_image_element_plays_in_ffmpeg_too(page: LivePage) -> None:
    page.show(inspection(box=(100, 80, 180, 140)))

    def first_picture() -> np.ndarray:
        with av.open(f"{page.url}api/v1/cameras/top/mjpeg", format="mpjpeg", timeout=5) as stream:
            return next(stream.decode(video=0)).to_ndarray(format="rgb24")

    reading = asyncio.create_task(asyncio.to_thread(first_picture))
    while not reading.done():
        page.show(inspection(box=(100, 80, 180, 140)))
        await asyncio.wait([reading], timeout=0.05)
    red, green, _ = reading.result()[100:120, 120:160].mean((0, 1))
    assert red > green + 60


async def test_two_viewers_share_one_encoding(page: LivePage, http: httpx.AsyncClient) -> None:
    page.show(inspection())
    async with (
        http.stream("GET", f"{API}/mjpeg?camera=top") as one,
        http.stream("GET", f"{API}/mjpeg?camera=top") as two,
    ):
        a, b = parts(one), parts(two)
        await anext(a), await anext(b)
        drawn = page.stats().drawn
        page.show(inspection(seq=2))
        assert (await anext(a))[1] == (await anext(b))[1]
        assert page.stats().drawn == drawn + 1
        assert page.stats().viewers == 2


async def test_one_connection_carries_many_cameras(page: LivePage, http: httpx.AsyncClient) -> None:
    page.show(inspection("top"))
    page.show(inspection("side"))
    async with http.stream("GET", f"{API}/mjpeg?camera=top&camera=side") as answer:
        reader = parts(answer)
        assert {(await anext(reader))[0]["X-Camera"] for _ in range(2)} == {"top", "side"}


async def test_a_viewer_that_stops_reading_slows_nobody_and_comes_back_to_the_newest(
    page: LivePage, http: httpx.AsyncClient
) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (720, 960, 3), np.uint8)  # large JPEGs fill socket buffers quickly
    stuck_in, stuck_out = await asyncio.open_connection("127.0.0.1", port_of(page), limit=4096)
    stuck_out.write(f"GET {API}/cameras/top/mjpeg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await stuck_in.readuntil(b"\r\n\r\n")
    async with http.stream("GET", f"{API}/mjpeg?camera=top") as answer:
        reader = parts(answer)
        await anext(reader)
        slowest_s = 0.0
        for seq in range(1, 41):
            shown_at = time.monotonic()
            page.show(Frame("top", seq, float(seq), time.monotonic(), noise))
            assert (await anext(reader))[0]["X-Taken-At"] == f"{seq:.6f}"
            slowest_s = max(slowest_s, time.monotonic() - shown_at)
    assert slowest_s < 1.0
    assert page.stats().dropped > 10
    stuck_out.close()


async def test_a_viewer_who_leaves_gives_the_seat_back(page: LivePage, http: httpx.AsyncClient) -> None:
    async with http.stream("GET", f"{API}/mjpeg?camera=top") as answer:
        await anext(parts(answer))
        assert page.stats().viewers == 1
    async with asyncio.timeout(3):
        while (await http.get(f"{API}/stats")).json()["page"]["viewers"]:
            pass


async def test_stopping_with_open_streams_takes_no_time(line: FakeLine) -> None:
    page = LivePage(line.view(), listen="127.0.0.1:0", max_fps=500)
    await page.start()
    page.show(inspection())
    async with (
        httpx.AsyncClient(base_url=page.url) as client,
        client.stream("GET", f"{API}/mjpeg?camera=top") as pictures,
        client.stream("GET", f"{API}/live") as told,
    ):
        reader, listener = parts(pictures), events(told)
        await anext(reader), await anext(listener)
        began = time.monotonic()
        await page.stop()
        assert time.monotonic() - began < 1.0
        assert [part async for part in reader] == []
        assert len([message async for message in listener]) <= 1
    await page.stop()


async def test_stopping_cuts_off_a_viewer_that_does_not_read(line: FakeLine) -> None:
    page = LivePage(line.view(), listen="127.0.0.1:0", max_fps=500)
    await page.start()
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (720, 960, 3), np.uint8)
    port = port_of(page)
    stuck_in, stuck_out = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    stuck_out.write(f"GET {API}/cameras/top/mjpeg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await stuck_in.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(10):
        seq = 0
        while page.stats().dropped < 3:
            seq += 1
            page.show(Frame("top", seq, float(seq), time.monotonic(), noise))
            await asyncio.sleep(0.01)
    began = time.monotonic()
    await page.stop()
    assert time.monotonic() - began < 1.5
    stuck_out.close()


async def test_the_feed_tells_the_whole_line_and_changes_at_once(
    page: LivePage, line: FakeLine, http: httpx.AsyncClient
) -> None:
    async with http.stream("GET", f"{API}/live") as answer:
        told = events(answer)
        first = await anext(told)
        assert [camera["name"] for camera in first["cameras"]] == ["top", "side"]
        assert first["incidents"] == []
        line.incidents = [incident(1)]
        page.incidents_changed()
        began = time.monotonic()
        while not (message := await anext(told))["incidents"]:
            pass
        assert time.monotonic() - began < 0.5
        assert message["incidents"][0]["opened_at"].endswith("Z")


async def test_a_camera_that_is_down_shows_a_picture_that_says_so(
    page: LivePage, line: FakeLine, http: httpx.AsyncClient
) -> None:
    page.show(inspection())
    live = await http.get(f"{API}/cameras/top/snapshot")
    line.set("top", state="down", reason="The camera does not answer.")
    page.camera_changed()
    offline = await http.get(f"{API}/cameras/top/snapshot")
    assert (live.headers["x-live"], offline.headers["x-live"]) == ("1", "0")
    assert decode(offline.content).shape == (480, 640, 3)


async def test_snapshots_come_with_and_without_overlay_in_full_size(
    page: LivePage, http: httpx.AsyncClient
) -> None:
    page.show(inspection(box=(400, 200, 600, 300), size=(1280, 720)))
    drawn = decode((await http.get(f"{API}/cameras/top/snapshot")).content)
    plain = decode((await http.get(f"{API}/cameras/top/snapshot?overlay=false")).content)
    assert drawn.shape == plain.shape == (720, 1280, 3)
    assert abs(plain[250, 500].astype(int) - [170] * 3).max() < 6
    assert drawn[250, 500, 0] > drawn[250, 500, 1] + 60


async def test_the_api_says_what_the_line_is(line: FakeLine, http: httpx.AsyncClient) -> None:
    line.incidents = [incident(i, "top" if i % 2 else "side") for i in range(150)]
    cameras = (await http.get(f"{API}/cameras")).json()
    assert cameras[0]["state"] == "live"
    assert cameras[0]["verdict"]["verdict"] == "ok"
    assert (await http.get(f"{API}/cameras/side")).json()["name"] == "side"
    assert len((await http.get(f"{API}/events?limit=20&camera=top")).json()) == 20
    assert (await http.get(f"{API}/stats")).json()["page"]["viewers"] == 0
    assert (await http.get(f"{API}/scale")).json()["alarm"] == 1.0


async def test_an_unknown_camera_is_404_and_names_those_that_are(http: httpx.AsyncClient) -> None:
    for path in ("snapshot", "mjpeg", ""):
        answer = await http.get(f"{API}/cameras/left/{path}".rstrip("/"))
        assert answer.status_code == 404
        assert "top, side" in answer.json()["detail"]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /re",
        b"POST /api/v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
    ],
)
async def test_who_connects_and_does_not_end_a_request_is_sent_away(
    said: bytes, line: FakeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.web.server._SWEEP_S", 0.05)
    monkeypatch.setattr("stream.web.server._SILENT_S", 0.2)
    monkeypatch.setattr("stream.web.server._KEEP_ALIVE_S", 0.2)
    page = LivePage(line.view(), listen="127.0.0.1:0")
    await page.start()
    async with (
        asyncio.timeout(10),
        httpx.AsyncClient(base_url=page.url) as http,
        http.stream("GET", f"{API}/live") as live,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(page))
        writer.write(said)
        await reader.read()  # an answer to what was whole, then the end
        writer.close()
        assert await anext(live.aiter_bytes())  # what is being answered goes on
    await page.stop()


async def test_ready_is_503_with_reasons_until_all_is_well(line: FakeLine, http: httpx.AsyncClient) -> None:
    line.reasons = ["The model of top is not warm yet."]
    line.started = False
    answers = [await http.get(path) for path in ("/live", "/ready", "/startup")]
    assert [answer.status_code for answer in answers] == [200, 503, 503]
    assert answers[1].json()["reasons"] == line.reasons
    line.reasons, line.started = [], True
    assert [(await http.get(path)).status_code for path in ("/live", "/ready", "/startup")] == [200, 200, 200]


async def test_metrics_are_prometheus_text(http: httpx.AsyncClient) -> None:
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'linewatch_camera_up{camera="top"} 1.0' in answer.text


async def test_openapi_is_there_and_no_page_that_loads_remote_scripts(http: httpx.AsyncClient) -> None:
    told = await http.get(API, follow_redirects=True)
    paths = told.json()["paths"]
    assert f"{API}/cameras/{{name}}/mjpeg" in paths
    summaries = [operation["summary"] for path in paths.values() for operation in path.values()]
    assert paths["/ready"]["get"]["summary"].startswith("Models are warm")
    assert len(set(summaries)) == len(summaries)
    assert [(await http.get(path)).status_code for path in ("/docs", "/redoc")] == [404, 404]


async def test_the_page_is_small_and_names_no_other_host(http: httpx.AsyncClient) -> None:
    from stream.web.app import STATIC

    assets = [path for path in STATIC.rglob("*") if path.is_file()]
    sizes = [len((await http.get(f"/static/{path.relative_to(STATIC)}")).content) for path in assets]
    assert 0 < sum(sizes) <= 200_000
    for path in assets:
        assert "//" not in path.read_text().replace("http://www.w3.org/2000/svg", "").replace("// ", "")


async def test_every_answer_carries_the_security_headers(http: httpx.AsyncClient) -> None:
    for path in ("/", "/static/app.js", f"{API}/cameras", "/nothing"):
        headers = (await http.get(path)).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_strange_host_headers_are_refused_on_loopback(http: httpx.AsyncClient) -> None:
    for host in ("evil.example", "evil.example:80", "10.0.0.5", "", "127.0.0.1.evil.example"):
        assert (await http.get(f"{API}/cameras", headers={"host": host})).status_code == 421, host


async def test_loopback_names_are_answered(http: httpx.AsyncClient) -> None:
    for host in ("localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080"):
        assert (await http.get(f"{API}/cameras", headers={"host": host})).status_code == 200, host


async def test_no_path_leads_out_of_the_static_folder(page: LivePage) -> None:
    for path in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "%00", "..\\app.py"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(page))
        writer.write(f"GET /static/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ", 2)[1] in (b"404", b"400"), path
        assert b"def create_app" not in answer


async def test_a_large_body_is_refused_before_it_is_read(http: httpx.AsyncClient) -> None:
    assert (await http.post(f"{API}/cameras", content=b"x" * 100_000)).status_code == 413


async def test_seats_are_bounded_with_a_sentence(line: FakeLine) -> None:
    page = LivePage(line.view(), listen="127.0.0.1:0", max_viewers=1, max_fps=500)
    await page.start()
    try:
        async with (
            httpx.AsyncClient(base_url=page.url) as client,
            client.stream("GET", f"{API}/mjpeg?camera=top"),
        ):
            refused = await client.get(f"{API}/live")
            assert refused.status_code == 503
            assert "limit" in refused.json()["detail"]
    finally:
        await page.stop()


async def test_a_server_that_fails_before_it_listens_is_one_sentence(
    line: FakeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", fail)
    page = LivePage(line.view(), listen="127.0.0.1:0")
    async with asyncio.timeout(5):
        with pytest.raises(ListenError, match="The page can't start on"):
            await page.start()
        await page.stop()


async def test_a_port_that_is_taken_is_one_sentence(line: FakeLine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        page = LivePage(line.view(), listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ListenError, match="already in use; choose another"):
            await page.start()
        await page.stop()


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "10.0.0.5:80", ":8080"])
def test_an_address_that_others_reach_needs_users(listen: str) -> None:
    with pytest.raises(ListenError, match="no users"):
        check_listen(listen, None)


@pytest.mark.parametrize("listen", ["8080", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"])
def test_a_broken_address_is_one_sentence(listen: str) -> None:
    with pytest.raises(ListenError, match="not ADDRESS:PORT"):
        check_listen(listen, None)
