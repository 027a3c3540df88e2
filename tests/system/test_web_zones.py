"""Areas and masks over REST, put in force in a real library and kept in a real file."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from config.changes import Changes
from config.load import load
from config.zones import Zones, ZonesFile
from engine.library import Library
from stream import drawing
from stream.drawing import Drawing
from stream.endings import end
from stream.live import LiveConfig
from stream.models import Models, tuning
from stream.outbox import Outbox
from stream.recorder import Recorder
from stream.web.page import LivePage
from tests.models import tiny_artifact
from tests.webline import FakeLine

URL = "/api/v1/cameras/top/zones"
TRIANGLE = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]
LABEL = {"label": {"polygon": [[0.4, 0.4], [0.6, 0.4], [0.6, 0.6]]}}
EVERYTHING = [[0, 0], [1, 0], [1, 1], [0, 1]]


class Line:
    """What a change of the config file changes here: the cameras' models."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def check(self, changes: Changes) -> dict[str, str]:
        return {}

    async def change(self, changes: Changes) -> None:
        for camera in changes.changed:
            await self.models.watch(camera, changes.after.cameras[camera])


class Shop:
    """A camera with a model, whose config file is read again as a running line does, and its page."""

    def __init__(self, folder: Path) -> None:
        path = folder / "cameras.yaml"
        path.write_text(
            "version: 1\ncameras: {top: {source: {type: pattern}}}\nweb: {zones_file: zones.yaml}\n"
        )
        self.folder = folder
        settings = load(path)
        self.library = Library()
        self.library.put("top", tiny_artifact(), tuning(settings.cameras["top"]))
        self.models = Models(self.library, folder / "models", settings.cameras, self._on_model)
        outbox = Outbox(folder / "outbox.db")
        recorder = Recorder(outbox, site="plant-a", line="line-1")
        self.live = LiveConfig(settings, Line(self.models), recorder, every_s=0.1)
        drawn = Drawing(lambda: self.live.in_force, self.live.reload)
        self.page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", drawing=drawn)

    async def _on_model(self, *_: object) -> None:
        pass

    def inspected(self) -> float:
        """The share of the picture in which defects count."""
        entry = self.library.get("top")
        assert entry is not None
        return 1.0 if entry.zone is None else float(entry.zone.float().mean())


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    await shop.page.start()
    watching = asyncio.create_task(shop.live.run())
    yield shop
    await end([watching])
    await shop.page.stop()


@pytest_asyncio.fixture
async def http(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=shop.page.url, timeout=5) as client:
        yield client


async def test_what_is_drawn_holds_at_once_and_after_a_restart(http: httpx.AsyncClient, shop: Shop) -> None:
    told = (await http.put(URL, json={"roi": TRIANGLE, "masks": LABEL})).json()
    assert told["drawn"] is True
    assert told["masks"] == {"label": LABEL["label"]["polygon"]}
    assert shop.inspected() == pytest.approx(0.32 - 0.02, abs=0.02)
    again = load(shop.folder / "cameras.yaml")
    assert Zones.of(again.cameras["top"]) == Zones.of(shop.live.in_force.cameras["top"])
    assert (await http.get(URL)).json() == told


async def test_one_may_go_back_to_the_config_files(http: httpx.AsyncClient, shop: Shop) -> None:
    await http.put(URL, json={"roi": TRIANGLE})
    await http.put(URL, json={"roi": None, "masks": LABEL})
    told = (await http.delete(URL)).json()
    assert (told["drawn"], told["roi"], told["masks"]) == (False, None, {})
    assert shop.inspected() == 1.0
    assert "top" not in (shop.folder / "zones.yaml").read_text()


async def test_nobody_draws_over_what_another_window_has_drawn_since(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    seen = (await http.get(URL)).json()["fingerprint"]
    first = await http.put(URL, json={"roi": TRIANGLE, "base": seen})
    late = await http.put(URL, json={"masks": LABEL, "base": seen})
    assert late.status_code == 409 and "changed meanwhile" in late.json()["detail"]
    now = (await http.get(URL)).json()
    assert now == first.json()
    told = await http.put(URL, json={"roi": TRIANGLE, "masks": LABEL, "base": now["fingerprint"]})
    assert told.json()["masks"] == {"label": LABEL["label"]["polygon"]}


async def test_areas_whose_text_was_pasted_into_the_config_file_can_be_drawn_anew(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    told = (await http.put(URL, json={"roi": TRIANGLE})).json()
    path = shop.folder / "cameras.yaml"
    path.write_text(path.read_text().replace("{type: pattern}}", f"{{type: pattern}}, roi: {TRIANGLE}}}"))
    await shop.live.reload()
    assert (await http.get(URL)).json()["roi"] == told["roi"]
    told = (await http.put(URL, json={"roi": None, "masks": LABEL})).json()
    assert (told["roi"], list(told["masks"])) == (None, ["label"])
    assert shop.inspected() == pytest.approx(0.98, abs=0.02)
    told = (await http.delete(URL)).json()
    assert (told["drawn"], told["roi"]) == (False, TRIANGLE)


async def test_areas_that_the_config_file_got_meanwhile_are_not_drawn_over(
    http: httpx.AsyncClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shop.folder / "cameras.yaml"
    edited = path.read_text().replace("{type: pattern}}", f"{{type: pattern}}, roi: {TRIANGLE}}}")
    keep = drawing.write

    def write(zones_file: Path, content: ZonesFile) -> None:
        path.write_text(edited)  # saved by an editor just now
        keep(zones_file, content)

    monkeypatch.setattr(drawing, "write", write)
    answer = await http.put(URL, json={"roi": None, "masks": LABEL})
    assert (answer.status_code, "changed meanwhile" in answer.json()["detail"]) == (409, True)
    told = (await http.get(URL)).json()
    assert (told["drawn"], told["roi"], told["masks"]) == (False, TRIANGLE, {})
    assert "top" not in (shop.folder / "zones.yaml").read_text()


async def test_an_alarm_level_set_by_hand_stays(http: httpx.AsyncClient, shop: Shop) -> None:
    await shop.models.set_threshold("top", 0.75)
    await http.put(URL, json={"roi": TRIANGLE})
    entry = shop.library.get("top")
    assert entry is not None and entry.info.threshold == 0.75
    await shop.models.set_threshold("top", None)
    assert shop.inspected() < 0.5


async def test_zones_that_leave_nothing_change_nothing(http: httpx.AsyncClient, shop: Shop) -> None:
    answer = await http.put(URL, json={"masks": {"all": {"polygon": EVERYTHING}}})
    assert answer.status_code == 409
    assert "leaves nothing to inspect" in answer.json()["detail"]
    assert shop.inspected() == 1.0
    assert not (shop.folder / "zones.yaml").exists()


@pytest.mark.parametrize(
    "body",
    [
        {"roi": [[0, 0], [1, 1], [1, 0], [0, 1]]},
        {"roi": [[0, 0], [9, 0], [1, 1]]},
        {"roi": "all"},
        {"masks": {"../x": LABEL["label"]}},
        {"masks": {"a": {"polygon": [[0, 0]]}}},
        {"rio": None},
        [],
    ],
)
async def test_what_is_no_zone_is_refused_in_one_sentence(
    http: httpx.AsyncClient, shop: Shop, body: object
) -> None:
    answer = await http.put(URL, json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str) and answer.json()["detail"]
    assert shop.inspected() == 1.0


async def test_zones_that_can_not_be_kept_do_not_hold(http: httpx.AsyncClient, shop: Shop) -> None:
    nowhere = Path("/proc/linewatch/zones.yaml")  # no folder can be made there, not even by root
    in_force = shop.live.in_force
    shop.live.in_force = in_force.updated({"web": in_force.web.updated({"zones_file": nowhere})})
    assert (await http.put(URL, json={"roi": TRIANGLE})).status_code == 507
    assert shop.inspected() == 1.0


async def test_the_audit_says_who_drew_what(
    http: httpx.AsyncClient, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "linewatch.audit"):
        await http.put(URL, json={"roi": TRIANGLE})
    assert "camera top by local: roi: - [0.1, 0.1] - [0.9, 0.1] - [0.5, 0.9] masks: {}" in caplog.messages


async def test_an_unknown_camera_is_404(http: httpx.AsyncClient) -> None:
    assert (await http.get(URL.replace("top", "left"))).status_code == 404
    assert (await http.put(URL.replace("top", "left"), json={"roi": None})).status_code == 404


async def test_a_body_that_does_not_say_how_long_it_is_is_cut_off(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 4096

    answer = await http.put(URL, content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert shop.inspected() == 1.0


async def test_another_sites_page_draws_nothing(http: httpx.AsyncClient, shop: Shop) -> None:
    for strange in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = await http.put(URL, json={"roi": TRIANGLE}, headers=strange)
        assert answer.status_code == 403
    assert shop.inspected() == 1.0


async def test_while_the_config_file_has_mistakes_nothing_is_drawn(
    http: httpx.AsyncClient, shop: Shop
) -> None:
    (shop.folder / "cameras.yaml").write_text("version: 1\ncameras: {top: {source: {type: patern}}}\n")
    answer = await http.put(URL, json={"roi": TRIANGLE})
    assert answer.status_code == 409
    assert "cameras.yaml:2" in answer.json()["detail"]
    assert shop.inspected() == 1.0
    assert "top" not in (shop.folder / "zones.yaml").read_text()
