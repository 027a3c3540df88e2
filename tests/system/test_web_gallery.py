"""The camera page's and the gallery's routes over a real server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest_asyncio

from engine.core import ModelInfo
from stream.evidence import Evidence
from stream.web.errors import Refused
from stream.web.page import LivePage
from stream.web.view import LineActions
from tests.webline import MODEL, FakeLine, incident, inspection

API = "/api/v1"
BOX = (100, 80, 180, 140)
LOUDER = {"level": 1.5, "base": MODEL.threshold}


@dataclass
class Served:
    """A line with kept pictures, its client, and the alarm levels that were asked for."""

    line: FakeLine
    page: LivePage
    evidence: Evidence
    http: httpx.AsyncClient
    levels: list[tuple[str, float | None]] = field(default_factory=list)
    of: list[ModelInfo | None] = field(default_factory=list)
    in_force: dict[str, ModelInfo] = field(default_factory=dict)

    def keep(self) -> str:
        """One incident with its picture, written; its evidence path under the API."""
        image, _ = self.evidence.keep(inspection("top", box=BOX))
        self.evidence.stop()
        self.evidence.start()
        assert image is not None
        self.line.incidents = [incident(1, image=image)]
        return f"{API}/{image.removesuffix('.png')}"


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    line, levels, models = FakeLine.of("top", "side"), [], []
    in_force: dict[str, ModelInfo] = {}
    evidence = Evidence(tmp_path / "evidence")
    evidence.start()

    async def set_threshold(camera: str, raw: float | None, of: ModelInfo | None) -> ModelInfo:
        if camera == "side":
            raise Refused("The model of side is being trained.")
        levels.append((camera, raw))
        models.append(of)
        return MODEL if raw is None else replace(MODEL, threshold=raw)

    page = LivePage(
        line.view(),
        actions=LineActions(set_threshold, in_force.get),
        evidence=evidence,
        pictures=tmp_path / "pictures",
        listen="127.0.0.1:0",
    )
    await page.start()
    async with httpx.AsyncClient(base_url=page.url, timeout=5) as http:
        yield Served(line, page, evidence, http, levels, models, in_force)
    await page.stop()
    evidence.stop()


async def test_kept_pictures_are_listed_and_served(served: Served) -> None:
    served.keep()
    listed = (await served.http.get(f"{API}/evidence?camera=top")).json()
    assert listed[0]["score_ratio"] == 1.6
    for key, kind in (("image", "image/png"), ("heatmap", "image/jpeg")):
        answer = await served.http.get(f"/{listed[0][key]}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


async def test_a_false_alarm_lands_in_the_good_folder_and_shows_on_the_incident(
    served: Served, tmp_path: Path
) -> None:
    path = served.keep()
    answer = await served.http.put(f"{path}/feedback", json={"feedback": "false_alarm"})
    assert answer.json()["feedback"] == "false_alarm"
    assert len(list((tmp_path / "pictures" / "top" / "good").glob("*.png"))) == 1
    assert (await served.http.get(f"{API}/events")).json()[0]["feedback"] == "false_alarm"


async def test_nonsense_is_refused_with_a_reason(served: Served) -> None:
    path = served.keep()
    assert (await served.http.put(f"{path}/feedback", json={"feedback": "perhaps"})).status_code == 422
    assert (await served.http.put(f"{path}x/feedback", json={"feedback": None})).status_code == 404
    for name in ("..%2f..%2fetc%2fpasswd", "x.json", "x.png", "%00.png"):
        assert (await served.http.get(f"/evidence/top/{name}")).status_code == 404


async def test_another_sites_page_can_change_nothing(served: Served) -> None:
    path = served.keep()
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        answer = await served.http.put(f"{path}/feedback", json={"feedback": "confirmed"}, headers=headers)
        assert answer.status_code == 403
    own = served.page.url.rstrip("/")
    answer = await served.http.put(
        f"{path}/feedback", json={"feedback": "confirmed"}, headers={"origin": own}
    )
    assert answer.status_code == 200


async def test_the_curve_and_the_cost_of_another_level(served: Served) -> None:
    for seq in range(20):
        served.page.show(inspection("top", seq, box=BOX if seq % 10 > 6 else None))
    curve = (await served.http.get(f"{API}/cameras/top/scores?seconds=60")).json()
    assert max(curve["highest"]) == 1.6
    assert (curve["threshold"], curve["can_set"]) == (MODEL.threshold, True)
    costs = [(await served.http.get(f"{API}/cameras/top/cost?level={level}")).json() for level in (1.0, 1.8)]
    assert [cost["above"] for cost in costs] == [6, 0]
    assert (await served.http.get(f"{API}/cameras/left/scores")).status_code == 404


async def test_the_alarm_level_is_set_as_a_raw_value(served: Served) -> None:
    served.page.show(inspection("top"))
    await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)
    await served.http.put(f"{API}/cameras/top/threshold", json={"level": None})
    assert served.levels == [("top", 0.1 + 1.5 * 1.9), ("top", None)]


async def test_the_alarm_level_is_meant_for_the_model_that_the_curve_was_drawn_by(served: Served) -> None:
    served.page.show(inspection("top"))
    await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)
    await served.http.put(f"{API}/cameras/top/threshold", json={"level": None})
    assert served.of == [MODEL, None]


async def test_a_level_that_was_set_is_shown_before_the_next_picture_comes(served: Served) -> None:
    served.page.show(inspection("top"))
    await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)
    curve = (await served.http.get(f"{API}/cameras/top/scores")).json()
    assert curve["threshold"] == 0.1 + 1.5 * 1.9
    again = await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)
    assert again.status_code == 409 and len(served.levels) == 1


async def test_a_camera_that_was_not_triggered_yet_takes_an_alarm_level(served: Served) -> None:
    served.in_force["top"] = MODEL
    curve = (await served.http.get(f"{API}/cameras/top/scores")).json()
    assert (curve["threshold"], curve["median"], curve["can_set"]) == (MODEL.threshold, MODEL.median, True)
    assert (await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)).status_code == 200
    assert (served.levels, served.of) == ([("top", 0.1 + 1.5 * 1.9)], [MODEL])
    served.in_force["top"] = replace(MODEL, threshold=0.1 + 1.5 * 1.9)
    again = await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)
    assert again.status_code == 409 and "changed meanwhile" in again.json()["detail"]


async def test_a_model_that_has_inspected_nothing_yet_takes_an_alarm_level_too(served: Served) -> None:
    served.page.show(inspection("top"))
    served.in_force["top"] = newer = replace(MODEL, sha256="cd" * 32, threshold=3.0)
    answer = await served.http.put(f"{API}/cameras/top/threshold", json={"level": 2.0, "base": 3.0})
    assert answer.status_code == 200 and served.of == [newer]
    assert served.levels == [("top", newer.median + 2.0 * (3.0 - newer.median))]


async def test_the_same_request_again_does_not_raise_the_level_again(served: Served) -> None:
    served.page.show(inspection("top"))
    await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)
    raised = replace(MODEL, threshold=0.1 + 1.5 * 1.9)
    served.page.show(replace(inspection("top"), model=raised))
    again = await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)
    assert again.status_code == 409 and "changed meanwhile" in again.json()["detail"]
    assert len(served.levels) == 1
    without_base = await served.http.put(f"{API}/cameras/top/threshold", json={"level": 1.5})
    assert without_base.status_code == 422


async def test_an_answer_on_a_picture_that_was_just_removed_is_404(served: Served, tmp_path: Path) -> None:
    path = served.keep()
    for file in (tmp_path / "evidence").rglob("*.png"):
        file.unlink()
    answer = await served.http.put(f"{path}/feedback", json={"feedback": "false_alarm"})
    assert answer.status_code == 404 and "removed" in answer.json()["detail"]


async def test_what_can_not_be_set_says_why(served: Served) -> None:
    assert (await served.http.put(f"{API}/cameras/top/threshold", json=LOUDER)).status_code == 409
    served.page.show(inspection("side"))
    refused = await served.http.put(f"{API}/cameras/side/threshold", json=LOUDER)
    assert (refused.status_code, refused.json()["detail"]) == (409, "The model of side is being trained.")
    for level in (0, -1, 100, "NaN"):
        assert (
            await served.http.put(f"{API}/cameras/top/threshold", json={**LOUDER, "level": level})
        ).status_code == 422


async def test_the_scores_around_a_kept_picture_are_shown_and_outlive_the_page(served: Served) -> None:
    path = served.keep()
    assert (await served.http.get(f"{path}/scores")).status_code == 404
    for seq in range(3):
        served.page.show(inspection("top", seq, box=BOX if seq == 1 else None))
    curve = (await served.http.get(f"{path}/scores")).json()
    assert max(curve["highest"]) == 1.6
    assert curve["seconds"] == 40
    await served.page.stop()  # writes what waits
    assert len(list(served.evidence.path(served.evidence.items()[0], "scores").read_text())) > 50


async def test_scores_go_with_their_picture(served: Served) -> None:
    served.keep()
    item = served.evidence.items()[0]
    served.evidence.keep_scores(item, b"{}")
    served.evidence._remove(item)
    assert not served.evidence.path(item, "scores").exists()


async def test_one_kept_picture_can_be_asked_for(served: Served) -> None:
    path = served.keep()
    assert (await served.http.get(path)).json()["camera"] == "top"
    assert (await served.http.get(f"{path[:-1]}x")).status_code == 404
