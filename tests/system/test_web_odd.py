"""The page's routes with what is rare: many cameras, strange names and times, disks that hang."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from stream.evidence import Evidence
from stream.web.page import LivePage
from tests.webline import FakeLine

API = "/api/v1"


@asynccontextmanager
async def serve(line: FakeLine, evidence: Evidence | None = None) -> AsyncIterator[httpx.AsyncClient]:
    page = LivePage(line.view(), listen="127.0.0.1:0", evidence=evidence)
    await page.start()
    try:
        async with httpx.AsyncClient(base_url=page.url, timeout=5) as http:
            yield http
    finally:
        await page.stop()


async def test_the_grid_may_ask_for_as_many_cameras_as_a_config_file_may_name() -> None:
    names = [f"{number:064}" for number in range(256)]
    async with (
        serve(FakeLine.of(*names)) as http,
        http.stream("GET", f"{API}/mjpeg", params={"camera": names}) as answer,
    ):
        assert answer.status_code == 200
