"""The config file of a running line is edited: what it names changes, and nobody else notices."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from engine.artifact import save
from stream.broker import RunFile
from stream.sim.shows import PatternShow
from stream.web import users
from tests.models import tiny_artifact
from tests.servers import RunningSim, rtsp_sim
from tests.system.test_line import SIZE, WHO, Line, all_events, running, write_config

NEW_PASSWORD = "n3w:p@ss/%#?"


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    shows = {name: PatternShow("machined", seed, SIZE) for seed, name in enumerate(("top", "side", "rear"))}
    with rtsp_sim(shows, fps=10, credentials=WHO) as running_sim:
        yield running_sim


class Edited:
    """A config file that was written before, and what is asked of the line that runs with it."""

    def __init__(self, file: Path, line: Line, http: httpx.AsyncClient) -> None:
        self.file, self.line, self.http = file, line, http

    def write(self, config: dict[str, Any]) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(yaml.safe_dump(config, sort_keys=False))
        new.replace(self.file)

    async def metric(self, name: str) -> float:
        """The value of one series; 0 where there is none."""
        found = re.search(rf"^{re.escape(name)} (.*)$", (await self.http.get("/metrics")).text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def is_(self, wanted: Any) -> None:
        """Read the live feed, as the page does, until the cameras, by name, are as wanted."""
        url = "/api/v1/live"
        async with asyncio.timeout(30), self.http.stream("GET", url, timeout=30) as feed:
            async for line in feed.aiter_lines():
                if line.startswith("data:"):
                    cameras = {camera["name"]: camera for camera in json.loads(line[5:])["cameras"]}
                    if wanted(cameras):
                        return

    def log(self) -> str:
        return (self.line.folder / "run.log").read_text()


def config_of(folder: Path, sim: RunningSim, *cameras: str, **detect: Any) -> dict[str, Any]:
    path = write_config(folder, sim.url(), None, **detect)
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    source = config["cameras"]["top"]["source"]
    config["cameras"] = {name: {"source": source | {"url": sim.url(name)}} for name in cameras}
    return config


async def test_cameras_come_and_go_and_the_others_never_notice(sim: RunningSim, tmp_path: Path) -> None:
    config = config_of(tmp_path, sim, "top", "side")
    file = tmp_path / "cameras.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    async with running(tmp_path, file) as line, httpx.AsyncClient(base_url=line.told["page"]) as http:
        it = Edited(file, line, http)
        await it.is_(lambda cameras: all(camera["state"] == "live" for camera in cameras.values()))
        pictures = await it.metric('linewatch_frames_total{camera="top",result="received"}')
        top = config["cameras"]["top"]
        rear = {"source": top["source"] | {"url": sim.url("rear")}}
        it.write(config | {"cameras": {"rear": rear, "top": top}})
        await it.is_(lambda cameras: list(cameras) == ["rear", "top"] and cameras["rear"]["state"] == "live")
        assert await it.metric('linewatch_frames_total{camera="top",result="received"}') > pictures
        assert 'linewatch_reconnects_total{camera="top"' not in (await http.get("/metrics")).text
        assert 'camera="side"' not in (await http.get("/metrics")).text
        assert (sim.state("top")["viewers"], sim.state("side")["viewers"]) == ("1", "0")
        assert (await http.get("/api/v1/cameras/side/snapshot")).status_code == 404
        endpoint = RunFile.read(tmp_path / "broker" / "run.json").endpoint
        async with endpoint.client() as client:
            base = line.told["stream"].removesuffix(":events")
            async with asyncio.timeout(10):
                while await client.exists(f"{base}:side:status"):
                    await it.is_(lambda cameras: True)
            assert await client.exists(f"{base}:top:status")
        told = [e for e in await all_events(endpoint, line.told["stream"]) if e.type == "system.config"]
        assert [e.reason for e in told] == ["cameras added rear; removed side"]
        assert await line.end() == 0


async def test_a_broken_edit_is_said_where_it_is_wrong_and_only_an_admin_may_ask(
    sim: RunningSim, tmp_path: Path
) -> None:
    made = users.with_user(users.UsersFile(), "root", "admin", "correct horse battery")
    tokens: dict[str, str] = {}
    for role in users.ROLES:
        made, tokens[role] = users.with_token(made, f"machine-{role}", role)
    users.write(tmp_path / "users.yaml", made)
    config = config_of(tmp_path, sim, "top")
    config["web"]["users_file"] = "users.yaml"
    file = tmp_path / "cameras.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    async with running(tmp_path, file) as line, httpx.AsyncClient(base_url=line.told["page"]) as http:
        http.headers["authorization"] = f"Bearer {tokens['admin']}"
        it = Edited(file, line, http)
        await it.is_(lambda cameras: cameras["top"]["state"] == "live")
        checksum = (await http.get("/api/v1/config")).json()["sha256"]
        file.write_text(file.read_text().replace("username", "user_name").replace("fps: 5", "fps: 6"))
        broken = (await http.post("/api/v1/config/reload")).json()
        line_no = 1 + file.read_text().splitlines().index("      user_name: demo")
        assert f"cameras.yaml:{line_no}: cameras.top.source.user_name: unknown key" in broken["mistakes"][0]
        assert f"cameras.yaml:{line_no}: cameras.top.source.user_name" in it.log()
        assert await it.metric("linewatch_config_last_reload_successful") == 0
        assert (await http.get("/api/v1/config")).json()["sha256"] == checksum

        (tmp_path / "new.password").write_text(NEW_PASSWORD)
        config["cameras"]["side"] = {"source": dict(config["cameras"]["top"]["source"])}
        config["cameras"]["side"]["source"]["password"] = {"file": "new.password"}
        config["events"]["maxlen"] = 200_000
        # As long as a file of some hundred cameras may be.
        told = yaml.safe_dump(config, sort_keys=False) + "# padding\n" * 40_000
        validated = await http.post("/api/v1/config/validate", content=told)
        assert (validated.json()["mistakes"], validated.json()["added"]) == ([], ["side"])
        it.write(config)
        for role, status in (("viewer", 403), ("operator", 403), ("admin", 200)):
            headers = {"authorization": f"Bearer {tokens[role]}"}
            reloaded = await http.post("/api/v1/config/reload", headers=headers)
            assert reloaded.status_code == status
        assert reloaded.json()["at_next_start"] == ["events.maxlen"]
        assert (
            "events.maxlen: can't be changed while the line runs; takes effect at the next start" in it.log()
        )
        assert await it.metric("linewatch_config_last_reload_successful") == 1
        await it.is_(lambda cameras: cameras["side"]["state"] == "refused")
        schema = (await http.get("/api/v1/config/schema")).json()
        assert schema["title"] == "Linewatch configuration"
        assert await line.end() == 0
    everything = (
        (tmp_path / "run.log").read_bytes() + (tmp_path / "outbox.db").read_bytes() + reloaded.content
    )
    for secret in (WHO.password, NEW_PASSWORD, *tokens.values()):
        assert secret.encode() not in everything


async def test_a_camera_is_retuned_without_a_reconnect_and_reconnects_for_another_source(
    sim: RunningSim, tmp_path: Path
) -> None:
    save(tiny_artifact(real="lite", name="top"), tmp_path / "models")
    config = config_of(tmp_path, sim, "top", "side")
    file = tmp_path / "cameras.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    async with running(tmp_path, file) as line, httpx.AsyncClient(base_url=line.told["page"]) as http:
        it = Edited(file, line, http)
        await it.is_(lambda cameras: cameras["top"]["verdict"] and cameras["side"]["state"] == "live")
        level = (await http.get("/api/v1/cameras/top")).json()["model"]["threshold"]
        top, side = config["cameras"]["top"], config["cameras"]["side"]
        top |= {"fps": 2, "detect": {"threshold": level + 1}, "roi": [[0, 0], [0.5, 0], [0.5, 0.5]]}
        side["source"] |= {"url": sim.url("rear")}
        it.write(config)
        assert (await http.post("/api/v1/config/reload")).json()["changed"] == ["top", "side"]
        await it.is_(lambda cameras: cameras["top"]["model"]["threshold"] == level + 1)
        await it.is_(
            lambda cameras: cameras["side"]["state"] == "live" and sim.state("rear")["viewers"] == "1"
        )
        assert sim.state("side")["viewers"] == "0"
        await it.is_(lambda cameras: cameras["top"]["fps"] is not None and cameras["top"]["fps"] <= 2.5)
        assert "linewatch_reconnects_total{" not in (await http.get("/metrics")).text

        top["masks"] = {"all": {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}}
        it.write(config)
        wrong = (await http.post("/api/v1/config/reload")).json()["mistakes"]
        assert re.search(r"cameras.yaml:\d+: cameras.top: .*leaves nothing to inspect", wrong[0])
        assert (await http.get("/api/v1/cameras/top")).json()["model"]["threshold"] == level + 1
        assert await line.end() == 0


async def test_areas_drawn_on_the_page_hold_without_a_reconnect_and_after_a_restart(
    sim: RunningSim, tmp_path: Path
) -> None:
    config = config_of(tmp_path, sim, "top")
    config["pictures"] = {"dir": "pictures"}
    file = tmp_path / "cameras.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    drawn = {"roi": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]], "masks": {}}
    zones, pictures = "/api/v1/cameras/top/zones", "/api/v1/cameras/top/pictures"
    async with running(tmp_path, file) as line, httpx.AsyncClient(base_url=line.told["page"]) as http:
        it = Edited(file, line, http)
        await it.is_(lambda cameras: cameras["top"]["state"] == "live")
        checksum = (await http.get("/api/v1/config")).json()["sha256"]
        told = (await http.put(zones, json=drawn)).json()
        assert (told["drawn"], told["roi"]) == (True, drawn["roi"])
        assert (await http.get("/api/v1/config")).json()["sha256"] != checksum
        assert "linewatch_reconnects_total{" not in (await http.get("/metrics")).text
        # What the line shows is what is collected: the camera is asked for no second stream.
        await http.post(pictures, json={"frames": 2, "every_s": 0})
        await it.is_(lambda cameras: len(list((tmp_path / "pictures/top/good").glob("*.png"))) == 2)
        assert sim.state("top")["viewers"] == "1"
        assert await line.end() == 0
    assert yaml.safe_load(file.read_text()) == config
    async with running(tmp_path, file) as line, httpx.AsyncClient(base_url=line.told["page"]) as http:
        assert (await http.get(zones)).json() == told
        assert "roi and masks as drawn on the page" in (tmp_path / "run.log").read_text()
        assert await line.end() == 0
