"""Teaching over REST as the page does it: a real server, real pictures, real models, the real trainer."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import AsyncMock

import cv2
import httpx
import numpy as np
import pytest
import pytest_asyncio

from config.load import load
from config.settings import Settings
from engine import versions
from engine.artifact import save
from engine.core import Frame
from stream.collection import write_png
from stream.housekeeping import Stored
from stream.teaching import Teaching
from stream.web.page import LivePage
from stream.web.view import ModelView
from tests.models import tiny_artifact
from tests.puppets import until
from tests.webline import FakeLine, inspection

pytestmark = pytest.mark.timeout(300)  # trainings get what a busy machine leaves
API = "/api/v1"
CONFIG = """
version: 1
defaults: {model: {input_px: 64}}
cameras: {top: {source: {type: pattern}}, side: {source: {type: pattern}, model: top@1}}
models: {dir: models, keep_versions: 2, teacher_file: of-another-size.safetensors}
pictures: {dir: pictures}
"""
FEW_STEPS = ("--foreground", "off")


class Shop:
    """A line with two cameras of one model, and what a person may teach it."""

    def __init__(self, folder: Path) -> None:
        (folder / "cameras.yaml").write_text(CONFIG)
        self.folder = folder
        self.settings: Settings = load(folder / "cameras.yaml")
        self.line = FakeLine.of("top", "side")
        self.teaching = Teaching(lambda: self.settings, in_use=lambda: {"top": {1}}, extra=FEW_STEPS)
        self.page = LivePage(self.line.view(), listen="127.0.0.1:0", teaching=self.teaching)
        self.seq = 0

    def model(self, count: int = 1) -> None:
        for _ in range(count):
            folder = save(tiny_artifact(name="top"), self.folder / "models")
            (folder / "report.html").write_text("<style>p{color:red}</style><p>A report</p>")

    def show(self, *, bad: bool = False) -> None:
        """A picture unlike those before."""
        self.seq += 1
        made = inspection("top", self.seq, box=(40, 40, 80, 80) if bad else None)
        pixels = np.random.default_rng(self.seq).integers(40, 200, (240, 320, 3), np.uint8)
        frame = Frame("top", self.seq, time.time(), time.monotonic(), pixels)
        self.page.show(replace(made, frame=frame))

    def good(self, count: int) -> None:
        for i in range(count):
            pixels = np.random.default_rng(i).integers(90, 160, (64, 64, 3), np.uint8)
            write_png(pixels, self.folder / "pictures" / "top" / "good" / f"{i:03}.png")


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    await shop.page.start()
    yield shop
    await shop.teaching.stop()
    await shop.page.stop()


@pytest_asyncio.fixture
async def http(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=shop.page.url, timeout=10) as client:
        yield client


async def collected(http: httpx.AsyncClient, shop: Shop, *, bad: bool = False) -> dict[str, object]:
    """Shows pictures until the collection has ended; the line's word on it."""
    async with asyncio.timeout(20):
        while True:
            shop.show(bad=bad)
            state = shop.teaching.collections()[0]
            if not state.at_work:
                break
            await asyncio.sleep(0.01)
    async with http.stream("GET", f"{API}/live") as told:
        async for row in told.aiter_lines():
            if row.startswith("data: "):
                answer: dict[str, object] = json.loads(row.removeprefix("data: "))["collecting"][0]
                return answer
    raise AssertionError("the feed said nothing")


async def test_good_pictures_are_collected_and_counted(http: httpx.AsyncClient, shop: Shop) -> None:
    begun = await http.post(f"{API}/cameras/top/pictures", json={"frames": 5, "every_s": 0})
    assert begun.status_code == 202
    again = await http.post(f"{API}/cameras/top/pictures", json={"frames": 5})
    assert again.status_code == 409
    told = await collected(http, shop)
    assert (told["written"], told["at_work"], told["reason"]) == (5, False, "")
    listed = (await http.get(f"{API}/cameras/top/pictures")).json()
    assert listed["count"] == 5
    small = await http.get(f"/{listed['newest'][0]['small']}")
    picture = cv2.imdecode(np.frombuffer(small.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)


async def test_a_picture_that_took_the_name_of_another_is_not_shown_as_that_one(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    seen = set()
    for at in (1_000_000.0, 2_000_000.0):
        shop.good(1)
        os.utime(shop.folder / "pictures" / "top" / "good" / "000.png", (at, at))
        (picture,) = (await http.get(f"{API}/cameras/top/pictures")).json()["newest"]
        seen.add(picture["small"])
        assert (await http.delete(f"/{picture['small']}")).status_code == 200
    assert len(seen) == 2  # browsers keep what an address showed


async def test_pictures_that_alarm_are_not_good_unless_somebody_says_so(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    await http.post(f"{API}/cameras/top/pictures", json={"frames": 2, "every_s": 0})
    for _ in range(3):
        shop.show(bad=True)
    told = (await http.delete(f"{API}/cameras/top/pictures")).json()
    assert told["written"] == 0
    assert told["skipped"] == {"alarm": 3}
    await collected(http, shop)
    await http.post(f"{API}/cameras/top/pictures", json={"frames": 2, "every_s": 0, "with_alarms": True})
    assert (await collected(http, shop, bad=True))["written"] == 2


async def test_a_collection_that_a_bug_ended_is_not_shown_as_at_work(
    http: httpx.AsyncClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.teaching.Collection.run", AsyncMock(side_effect=KeyError("a bug")))
    await http.post(f"{API}/cameras/top/pictures", json={"frames": 5, "every_s": 0})
    told = await collected(http, shop)
    assert (told["at_work"], told["reason"]) == (False, "A bug ended it; the log says more.")
    assert (await http.post(f"{API}/cameras/top/pictures", json={"frames": 5})).status_code == 202


async def test_collecting_can_be_stopped_and_what_there_is_stays(http: httpx.AsyncClient, shop: Shop) -> None:
    await http.post(f"{API}/cameras/top/pictures", json={"frames": 1000, "every_s": 0})
    async with asyncio.timeout(10):
        while shop.teaching.collections()[0].captured.written < 2:
            shop.show()
            await asyncio.sleep(0.01)
    await http.delete(f"{API}/cameras/top/pictures")
    told = await collected(http, shop)
    assert told["reason"] == "It was stopped."
    assert (await http.get(f"{API}/cameras/top/pictures")).json()["count"] == told["written"]
    assert (await http.delete(f"{API}/cameras/top/pictures")).status_code == 409


async def test_a_picture_that_was_not_good_can_be_removed(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.good(3)
    url = f"{API}/cameras/top/pictures/001.png"
    assert (await http.delete(url)).json()["count"] == 2
    assert (await http.delete(url)).status_code == 404
    assert (await http.get(url)).status_code == 404


HOSTILE = (
    "..%2f..%2fcameras.yaml",
    "%2e%2e",
    "a%00.png",
    ".hidden.png",
    "x" * 300,
    "..%5ccameras.yaml",
)


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_of_a_picture_leads_out_of_its_folder(
    http: httpx.AsyncClient, shop: Shop, name: str
) -> None:
    shop.good(1)
    (shop.folder / "pictures" / "top" / "good" / ".hidden.png").write_bytes(b"x")
    for path in (f"{API}/cameras/top/pictures/{name}", f"{API}/cameras/{name}/pictures/000.png"):
        for method in ("GET", "DELETE"):
            assert (await http.request(method, path)).status_code in (404, 405, 409), path
    assert (shop.folder / "cameras.yaml").exists()


async def until_over(http: httpx.AsyncClient, within_s: float = 240) -> dict[str, object]:
    seen = []
    async with asyncio.timeout(within_s):
        while True:
            told = (await http.get(f"{API}/training")).json()
            seen.append(told["phase"])
            if not told["at_work"]:
                return told | {"seen": seen}
            await asyncio.sleep(0.1)


async def test_a_camera_is_trained_and_its_new_version_waits_for_a_word(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    shop.good(12)
    shop.model()
    begun = await http.post(f"{API}/training", json={"camera": "top", "steps": 3})
    assert begun.status_code == 202
    assert (await http.post(f"{API}/training", json={"camera": "top"})).status_code == 409
    told = await until_over(http)
    assert told["phase"] == "done", told
    assert (told["version"], told["good_pictures"], told["step"]) == (2, 12, 3)
    assert told["notes"][0].startswith(
        "side too goes by the model top, which now learns from good pictures of top"
    )
    assert versions.latest(shop.folder / "models", "top") == 1
    shelf = (await http.get(f"{API}/models/top")).json()
    assert [v["version"] for v in shelf["versions"]] == [2, 1]
    assert shelf["cameras"] == ["top", "side"]
    assert shelf["pinned"] == {"side": 1}
    report = await http.get(f"/{shelf['versions'][0]['report']}")
    assert "What good pictures score" in report.text
    assert (await http.post(f"{API}/models/top/2/promote")).json() == {"name": "top", "latest": 2}
    assert versions.latest(shop.folder / "models", "top") == 2


def said_of(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text().strip()


async def test_a_training_runs_at_the_lowest_priority_and_can_be_cancelled(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    shop.good(12)
    await http.post(f"{API}/training", json={"camera": "top", "steps": 100_000})
    await until(lambda: shop.teaching.training and shop.teaching.training.phase == "learning", 240)
    process = shop.teaching.trainer.process
    assert process is not None
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
    assert said_of(process.pid, "oom_score_adj") == "800"
    told = (await http.delete(f"{API}/training")).json()
    assert told["phase"] == "cancelled"
    assert process.returncode is not None
    assert not [p for p in (shop.folder / "models").glob("top/*") if p.name.isdigit()]
    assert (await http.delete(f"{API}/training")).status_code == 409


async def test_too_few_pictures_are_the_trainers_own_sentence(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.good(3)
    await http.post(f"{API}/training", json={"camera": "top"})
    told = await until_over(http)
    assert told["phase"] == "failed"
    assert "holds 3 good pictures; at least 10 are needed" in str(told["reason"])


async def test_the_end_of_the_line_ends_its_training(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.good(12)
    await http.post(f"{API}/training", json={"camera": "top", "steps": 100_000})
    await shop.teaching.stop()
    process = shop.teaching.trainer.process
    assert process is None or process.returncode is not None
    assert shop.teaching.training is not None
    assert shop.teaching.training.reason == "The line was stopped."
    for path, wish in (("training", {"camera": "top"}), ("cameras/top/pictures", {})):
        refused = await http.post(f"{API}/{path}", json=wish)
        assert (refused.status_code, refused.json()["detail"]) == (409, "Linewatch is stopping.")


async def test_one_goes_back_once_however_often_it_is_asked(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.model(3)
    url = f"{API}/models/top/rollback"
    assert (await http.get(f"{API}/models/top")).json()["earlier"] == 2
    answers = [await http.post(url, json={"version": 3}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert versions.latest(shop.folder / "models", "top") == 2


async def test_a_damaged_version_is_not_promoted(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.model(2)
    (shop.folder / "models" / "top" / "1" / "weights.safetensors").write_bytes(b"x")
    answer = await http.post(f"{API}/models/top/1/promote")
    assert answer.status_code == 409
    assert "altered or cut off" in answer.json()["detail"]
    assert versions.latest(shop.folder / "models", "top") == 2


async def test_versions_say_which_cameras_run_them(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.model(2)
    shop.line.set("top", model=ModelView("top", 2))
    shop.line.set("side", model=ModelView("top", 1))
    told = (await http.get(f"{API}/models/top")).json()["versions"]
    assert [(v["version"], v["used_by"]) for v in told] == [(2, ["top"]), (1, ["side"])]


async def test_a_report_runs_nothing_and_asks_for_nothing(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.model()
    answer = await http.get(f"{API}/models/top/1/report")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy and "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["..%2f..%2ftop/1", "%2e%2e/1", "top/0", "top/-1", "top/1%2f..", "TOP/1", "top/9"]
)
async def test_no_report_leads_out_of_the_models(http: httpx.AsyncClient, shop: Shop, path: str) -> None:
    shop.model()
    (shop.folder / "report.html").write_text("not yours")
    answer = await http.get(f"{API}/models/{path}/report")
    assert answer.status_code in (404, 422), path
    assert "not yours" not in answer.text


async def test_a_report_that_is_a_link_out_of_the_models_is_not_served(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    shop.model()
    report = shop.folder / "models" / "top" / "1" / "report.html"
    report.unlink()
    report.symlink_to(shop.folder / "cameras.yaml")
    assert (await http.get(f"{API}/models/top/1/report")).status_code == 404


async def test_old_versions_and_pictures_are_removed_and_counted(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.model(5)
    await shop.teaching.tidy()
    assert versions.versions(shop.folder / "models", "top") == [1, 4, 5]  # 1 is in use
    assert (await http.get(f"{API}/stats")).json()["page"]["removed"]["versions"] == 2
    assert 'linewatch_removed_total{what="versions"} 2.0' in (await http.get("/metrics")).text


async def test_unknown_cameras_are_404(http: httpx.AsyncClient) -> None:
    assert (await http.post(f"{API}/training", json={"camera": "left"})).status_code == 404
    assert (await http.get(f"{API}/cameras/left/pictures")).status_code == 404
    assert (await http.post(f"{API}/cameras/left/pictures", json={})).status_code == 404
    assert (await http.get(f"{API}/models/left")).status_code == 404


async def test_a_picture_whose_name_is_in_no_known_encoding_hides_no_other(
    shop: Shop, http: httpx.AsyncClient
) -> None:
    shop.good(1)
    folder = shop.folder / "pictures" / "top" / "good"
    (folder / os.fsdecode(b"gr\xf6sse.png")).write_bytes((folder / "000.png").read_bytes())
    listed = (await http.get(f"{API}/cameras/top/pictures")).json()
    assert listed["count"] == 2
    for picture in listed["newest"]:
        assert (await http.get(f"/{picture['small']}")).status_code == 200
        assert (await http.delete(f"/{picture['small']}")).status_code == 200
    assert list(folder.iterdir()) == []


async def test_a_disk_that_hangs_takes_no_thread_of_the_line(
    shop: Shop, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, hung = threading.Event(), list[Path]()

    def hanging(folder: Path) -> list[Stored]:
        hung.append(folder)
        go_on.wait(5)
        return []

    monkeypatch.setattr("stream.teaching.good_pictures", hanging)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    asked = [asyncio.create_task(http.get(f"{API}/cameras/top/pictures")) for _ in range(3)]
    await until(lambda: len(hung) >= 2)
    begun = time.monotonic()
    await asyncio.to_thread(time.monotonic)  # as the line does, to hand events on say
    assert time.monotonic() - begun < 1.0
    go_on.set()
    assert [answer.json()["count"] for answer in await asyncio.gather(*asked)] == [0, 0, 0]
