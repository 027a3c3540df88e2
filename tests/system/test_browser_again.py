"""The page is right again after servers that were away, fingers that press twice, and cameras that go."""

import asyncio
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from stream.teaching import Teaching
from stream.training import TrainingState
from stream.web import page, users
from tests.browsing import BOX, MARKS, Shop, open_tab, pictures
from tests.webline import inspection

pytestmark = MARKS

AWAY = "The server does not answer."
# Who is logged in is answered when the test says so, and before the browser tells of a change of the address.
# Counts how often a view is put in place.
HELD_ME = """
  const real = window.fetch;
  window.fetch = (path, ...rest) => path !== "/api/v1/me" ? real(path, ...rest) : new Promise((done) => {
    window.answerMe = (me) => done({ ok: true, json: async () => me });
  });
  window.views = 0;
  addEventListener("DOMContentLoaded", () => new MutationObserver((all) => {
    for (const change of all) window.views += [...change.addedNodes].some((n) => n.className === "stack");
  }).observe(document.getElementById("main"), { childList: true }));
"""


async def away(route: Route) -> None:
    await route.abort()


async def test_a_camera_page_that_met_a_server_that_was_away_fills_itself(tab: Page, shop: Shop) -> None:
    shop.evidence.keep(inspection("top", box=BOX, size=(640, 480)))
    paths = ("**/zones", "**/scores?*", "**/evidence?*")
    for path in paths:
        await tab.route(path, away)
    await tab.goto(shop.page.url + "#/camera/top")
    await expect(tab.get_by_role("region", name="Score").get_by_text(AWAY)).to_be_visible()
    await expect(tab.get_by_role("region", name="Kept pictures").get_by_text(AWAY)).to_be_visible()
    await expect(tab.get_by_role("region", name="Areas")).to_be_hidden()
    for path in paths:
        await tab.unroute(path)
    await expect(tab.get_by_text(AWAY)).to_have_count(0)
    await expect(tab.get_by_text("The whole picture is inspected.")).to_be_visible()
    await expect(tab.get_by_role("article", name="Defect on top")).to_have_count(1)


async def test_a_teaching_page_that_met_a_server_that_was_away_fills_itself(tab: Page, shop: Shop) -> None:
    shop.good_pictures(3)
    paths = ("**/pictures?*", "**/api/v1/models")
    for path in paths:
        await tab.route(path, away)
    await tab.goto(shop.page.url + "#/teach/top")
    await expect(tab.get_by_text(AWAY)).to_have_count(2)
    for path in paths:
        await tab.unroute(path)
    await expect(tab.get_by_text("3 good pictures")).to_be_visible()
    await expect(tab.get_by_text("No version yet")).to_be_visible()
    await expect(tab.get_by_text(AWAY)).to_have_count(0)


async def test_a_kept_picture_that_met_a_server_that_was_away_comes(tab: Page, shop: Shop) -> None:
    shop.evidence.keep(inspection("top", box=BOX, size=(640, 480)))
    shop.evidence.stop()  # it is written
    shop.evidence.start()
    (item,) = shop.evidence.items()
    await tab.route("**/api/v1/evidence/**", away)
    await tab.goto(f"{shop.page.url}#/incident/top/{item.stem}")
    await expect(tab.get_by_text(AWAY)).to_be_visible()
    await tab.unroute("**/api/v1/evidence/**")
    await expect(tab.get_by_role("button", name="False alarm")).to_be_visible()
    await expect(tab.get_by_text(AWAY)).to_have_count(0)


async def test_an_image_that_met_a_server_that_was_away_comes(tab: Page, shop: Shop) -> None:
    shop.good_pictures(1)
    shop.evidence.keep(inspection("top", box=BOX, size=(640, 480)))
    for address, image in (("#/incidents", "**/evidence/top/*.jpg"), ("#/teach/top", "**/pictures/*.png?*")):
        await tab.route(image, away)
        async with tab.expect_event("requestfailed", lambda asked: asked.resource_type == "image"):
            await tab.goto(shop.page.url + address)
        await tab.unroute(image)
        await tab.wait_for_function("() => document.querySelector('main img')?.naturalWidth > 0")


async def restarted(shop: Shop) -> None:
    """What a new process knows, at the same address."""
    await shop.page.stop()
    await shop.teaching.stop()
    shop.teaching = Teaching(lambda: shop.settings, in_use=dict)
    shop.page = shop.new_page(shop.page.url.removeprefix("http://").rstrip("/"))
    await shop.page.start()


async def test_what_a_restart_of_the_line_ended_is_not_shown_as_going_on(tab: Page, shop: Shop) -> None:
    shop.bad, shop.noisy = False, True
    await tab.goto(shop.page.url + "#/teach/top")
    await tab.get_by_role("button", name="Collect").click()
    await expect(tab.get_by_text("of 100 collected")).to_be_visible()
    learning = TrainingState("top", "top", "learning", time.time(), step=40, steps=100, notes=("A note.",))
    shop.teaching.trainer.state = learning
    await expect(tab.get_by_text("Learning: 40 %")).to_be_visible()
    await restarted(shop)
    await expect(tab.get_by_text("Learning: 40 %")).to_be_hidden()
    await expect(tab.get_by_text("What was noticed")).to_be_hidden()
    await expect(tab.get_by_text("of 100 collected")).to_be_hidden()


async def test_a_page_of_another_version_than_the_line_loads_itself_anew(
    tab: Page, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pictures(tab, "top", 1)
    await tab.evaluate("window.old = true")
    await restarted(shop)
    await expect(tab.get_by_text("connection lost")).to_be_hidden()
    assert await tab.evaluate("window.old"), "the same page needs no loading"
    monkeypatch.setattr(page, "files_mark", lambda: "another")
    await restarted(shop)
    await tab.wait_for_function("() => window.old === undefined")
    await pictures(tab, "top", 1)


async def test_areas_that_are_not_here_yet_are_not_drawn_over(tab: Page, shop: Shop) -> None:
    mask = {"masks": {"label": {"polygon": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}}}
    assert (await tab.request.put(f"{shop.page.url}api/v1/cameras/top/zones", data=mask)).ok
    there = asyncio.Event()

    async def slow(route: Route) -> None:
        await there.wait()
        await route.continue_()

    await tab.route("**/zones", slow)
    await tab.goto(shop.page.url + "#/camera/top")
    edit = tab.get_by_role("button", name="Edit areas")
    await expect(tab.get_by_role("button", name="Use this alarm level")).to_be_visible()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()  # what is below may move until then
    assert not await edit.is_visible()
    there.set()
    await edit.click()
    await expect(tab.get_by_role("button", name="mask: label")).to_be_visible()
    await tab.unroute_all(behavior="wait")


async def test_a_slow_server_is_asked_for_one_level_at_a_time(tab: Page, shop: Shop) -> None:
    asked: list[Request] = []

    async def slow(route: Route) -> None:
        asked.append(route.request)
        await asyncio.sleep(0.5)
        await route.continue_()

    await tab.route("**/cost?*", slow)
    await tab.goto(shop.page.url + "#/camera/top")
    slider = tab.get_by_role("slider", name="Alarm level")
    for _ in range(20):
        await slider.press("ArrowRight")
    await expect(tab.get_by_text("1.20×: about")).to_be_visible()
    assert len(asked) < 10
    await tab.unroute_all(behavior="wait")


async def test_a_slow_server_is_asked_for_one_curve_at_a_time(tab: Page, shop: Shop) -> None:
    asked: list[Request] = []
    answered = asyncio.Event()

    async def slow(route: Route) -> None:
        asked.append(route.request)
        await answered.wait()
        await route.continue_()

    await tab.route("**/scores?*", slow)
    await tab.goto(shop.page.url + "#/camera/top")
    await asyncio.sleep(3.0)
    assert len(asked) == 1
    answered.set()
    await tab.unroute_all(behavior="wait")


async def test_a_page_that_is_led_elsewhere_as_it_starts_goes_there_once(
    browser: Browser, shop: Shop
) -> None:
    tab = await browser.new_page()
    await tab.add_init_script(HELD_ME)
    await tab.goto(shop.page.url)
    await tab.wait_for_function("() => window.answerMe")
    me = await (await tab.request.get(f"{shop.page.url}api/v1/me")).json()
    await tab.evaluate("(me) => { location.hash = '#/camera/top'; window.answerMe(me); }", me)
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    assert await tab.evaluate("window.views") == 1
    await tab.close()


async def test_who_presses_twice_logs_in_once(browser: Browser, shop: Shop, tmp_path: Path) -> None:
    shop.users_file = tmp_path / "users.yaml"
    users.write(shop.users_file, users.with_user(users.UsersFile(), "anna", "admin", "correct horse"))
    await shop.page.stop()
    shop.page = shop.new_page("127.0.0.1:0")
    await shop.page.start()
    async with open_tab(browser, shop.page.url) as tab:
        logins: list[Request] = []
        tab.on("request", lambda asked: logins.append(asked) if asked.url.endswith("/login") else None)
        await tab.get_by_label("User").fill("anna")
        await tab.get_by_label("Password").fill("correct horse")
        await tab.get_by_role("button", name="Log in").dblclick()
        await expect(tab.get_by_role("button", name="Log out anna")).to_be_visible()
        assert len(logins) == 1


async def test_who_presses_twice_asks_once(tab: Page, shop: Shop) -> None:
    asked: list[Request] = []

    async def slow(route: Route) -> None:
        asked.append(route.request)
        await asyncio.sleep(0.5)
        await route.continue_()

    await tab.route("**/pictures", slow)
    await tab.goto(shop.page.url + "#/teach/top")
    await tab.get_by_role("button", name="Collect").dblclick()
    await expect(tab.get_by_role("button", name="Stop")).to_be_visible()
    assert len(asked) == 1
    await expect(tab.get_by_text("are being collected already")).to_have_count(0)


async def test_a_camera_that_is_removed_under_its_open_page_is_good_no_more(tab: Page, shop: Shop) -> None:
    await tab.goto(shop.page.url + "#/camera/top")
    big = tab.get_by_role("region", name="Camera top")
    await expect(big.get_by_text("live", exact=True)).to_be_visible()
    removed, *shop.line.cameras = shop.line.cameras
    await expect(big.get_by_text("There is no camera of this name.")).to_be_visible()
    await expect(big.get_by_text("removed", exact=True)).to_be_visible()
    for word in ("live", "OK", "0.20×", "5.0"):
        await expect(big.get_by_text(word, exact=True)).to_be_hidden()
    shop.line.cameras.insert(0, removed)
    await expect(big.get_by_text("live", exact=True)).to_be_visible()


async def test_who_logs_in_in_another_window_is_named_in_this_one(
    browser: Browser, shop: Shop, tmp_path: Path
) -> None:
    shop.users_file = tmp_path / "users.yaml"
    content = users.with_user(users.UsersFile(), "anna", "admin", "correct horse")
    users.write(shop.users_file, users.with_user(content, "bert", "viewer", "correct horse"))
    await shop.page.stop()
    shop.page = shop.new_page("127.0.0.1:0")
    await shop.page.start()
    async with open_tab(browser, shop.page.url) as tab:
        await tab.get_by_label("User").fill("anna")
        await tab.get_by_label("Password").fill("correct horse")
        await tab.get_by_role("button", name="Log in").click()
        await expect(tab.get_by_role("button", name="Log out anna")).to_be_visible()
        await expect(tab.get_by_role("article")).to_have_count(2)
        await tab.request.post(
            shop.page.url + "api/v1/login", data={"user": "bert", "password": "correct horse"}
        )
        await tab.evaluate("dispatchEvent(new Event('loggedout'))")  # as after a press that was refused
        await expect(tab.get_by_role("button", name="Log out bert")).to_be_visible()
