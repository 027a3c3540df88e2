"""The page in a real browser: Debian's Chromium, headless, steered by Playwright."""

import asyncio
import re
import time

import cv2
import numpy as np
import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from stream.web import users
from stream.web.view import ModelView, VerdictView
from tests.browsing import BOX, MARKS, MEAN_COLOUR, Shop, pictures, tile
from tests.webline import FakeLine, incident, inspection

pytestmark = MARKS


async def test_the_overlay_sits_on_the_defect(tab: Page) -> None:
    canvas = await pictures(tab, "top", 3)
    x0, y0, x1, y1 = BOX
    red, green, blue = await canvas.evaluate(MEAN_COLOUR, [x0 + 8, y0 + 8, x1 - 8, y1 - 8])
    assert red > green + 60
    assert red > blue + 60
    for beside in ([x0 - 120, y0, x0 - 20, y1], [x0, y1 + 20, x1, y1 + 60], [x1 + 10, y0, x1 + 60, y1]):
        red, green, _ = await canvas.evaluate(MEAN_COLOUR, beside)
        assert abs(red - green) < 12


async def test_the_first_picture_waits_for_nothing(
    browser: Browser, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for the camera's next one, nor for the state's next beat, nor for what else the page asks."""
    monkeypatch.setattr(shop.page._feed, "_period_s", 3600.0)
    shop.showing.cancel()
    shop.page.show(inspection("top", 1, size=(640, 480)))
    tab, held = await browser.new_page(), list[Route]()
    await tab.route(re.compile(r"/api/v1/(?!me$|live$|mjpeg\?)"), lambda route: held.append(route))
    await tab.goto(shop.page.url)
    await pictures(tab, "top", 1)
    assert held
    for route in held:
        await route.abort()
    await tab.close()


async def test_state_numbers_and_verdict_are_shown(tab: Page, shop: Shop) -> None:
    shop.line.set("top", verdict=VerdictView("ng", 1.6, 1, time.time()), latency_ms=51.2)
    top = tile(tab, "top")
    await expect(top.get_by_text("live")).to_be_visible()
    await expect(top.get_by_text("NG", exact=True)).to_be_visible()
    await expect(top.get_by_text("1.60×")).to_be_visible()
    await expect(top.get_by_text("51 ms")).to_be_visible()
    await expect(tab.get_by_role("img", name="Camera top: live, last verdict NG")).to_be_visible()


async def test_two_people_watch_and_each_picture_is_drawn_once(
    tab: Page, shop: Shop, browser: Browser
) -> None:
    other = await browser.new_page()
    await other.goto(shop.page.url)
    await pictures(other, "top", 5)
    before = shop.page.stats().drawn
    shown = [await (await pictures(t, "top", 5)).get_attribute("data-pictures") for t in (tab, other)]
    await pictures(tab, "top", int(shown[0]) + 20)
    drawn = shop.page.stats().drawn - before
    assert drawn < 2 * 30  # two cameras; drawn for each viewer it would be twice that
    await other.close()


async def until_dark(canvas: Locator, box: list[int]) -> None:
    async with asyncio.timeout(5):
        while max(await canvas.evaluate(MEAN_COLOUR, box)) >= 60:
            await canvas.page.wait_for_timeout(50)


async def test_a_camera_that_goes_down_says_why_and_comes_back(tab: Page, shop: Shop) -> None:
    await pictures(tab, "side", 2)
    shop.line.set("side", state="down", reason="The camera does not answer.", since=time.time() - 65)
    shop.page.camera_changed()
    side = tile(tab, "side")
    await expect(side.get_by_text("down", exact=True)).to_be_visible()
    await expect(side.get_by_text("The camera does not answer. For 1 min.")).to_be_visible()
    canvas = side.locator("canvas")
    # No part, no last frame: the words come by the feed, the picture by the video, in either order.
    await until_dark(canvas, [300, 300, 640, 480])
    shop.line.set("side", state="live", reason="", since=time.time())
    shop.page.camera_changed()
    await expect(side.get_by_text("live", exact=True)).to_be_visible()


async def test_an_incident_appears_without_asking(tab: Page, shop: Shop) -> None:
    await expect(tab.get_by_text("No incidents yet.")).to_be_visible()
    shop.line.incidents = [incident(1, "side", severity="critical")]
    shop.page.incidents_changed()
    entry = tab.get_by_role("listitem").filter(has_text="side")
    await expect(entry).to_contain_text("critical")
    await expect(entry).to_contain_text("still there")


async def test_eight_cameras_play_over_one_connection(tab: Page, shop: Shop) -> None:
    shop.line.cameras = FakeLine.of(*[f"cam{i}" for i in range(8)]).cameras
    shop.page.camera_changed()
    for name in ("cam0", "cam7"):
        await pictures(tab, name, 3)


async def test_the_page_comes_back_after_the_server_was_restarted(tab: Page, shop: Shop) -> None:
    await pictures(tab, "top", 2)
    await shop.page.stop()
    await expect(tab.get_by_text("connection lost")).to_be_visible()
    shop.page = shop.new_page(shop.page.url.removeprefix("http://").rstrip("/"))
    await shop.page.start()
    await expect(tab.get_by_text("connection lost")).to_be_hidden(timeout=15_000)
    shown = int(await tile(tab, "top").locator("canvas").get_attribute("data-pictures") or 0)
    await pictures(tab, "top", shown + 3)


async def test_dark_and_light_can_be_switched_and_are_remembered(tab: Page) -> None:
    before = await tab.evaluate("document.documentElement.dataset.theme")
    await tab.get_by_role("button", name="Switch between dark and light").click()
    await tab.reload()
    assert await tab.evaluate("document.documentElement.dataset.theme") != before


async def test_a_tablet_needs_no_sideways_scrolling_and_a_long_name_is_shown_whole(
    tab: Page, shop: Shop
) -> None:
    name = "x" * 64
    shop.line.cameras = FakeLine.of(name).cameras
    shop.line.set(name, model=ModelView(name, 12, 2.0))
    shop.line.incidents = [incident(1, name)]
    shop.page.camera_changed()
    await expect(tab.get_by_role("listitem").get_by_text("major")).to_be_visible()
    for width in (1024, 768, 400):
        await tab.set_viewport_size({"width": width, "height": 768})
        assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        cut = "(n) => n.scrollWidth > n.clientWidth"
        assert not await tile(tab, name).evaluate(cut)
        assert not await tab.get_by_role("complementary").locator("ol").evaluate(cut)


async def test_pictures_are_as_large_as_the_screen_lets_all_of_them_be(tab: Page) -> None:
    ask = """async (screens) => {
      const { arranged } = await import("/static/grid.js");
      const found = screens.map((screen) => arranged(...screen));
      return found.map((best) => best && [best.columns, best.wide]);
    }"""
    # One and four cameras on a wall, sixteen on a larger one; a panel PC and a phone, where one scrolls.
    screens = [[1, 1570, 990], [4, 1570, 990], [16, 3490, 2070], [16, 676, 500], [4, 340, 600]]
    assert await tab.evaluate(ask, screens) == [[1, 1146], [2, 476], [6, 568], None, None]
    await tab.set_viewport_size({"width": 1920, "height": 1080})
    async with asyncio.timeout(10):
        while await tile(tab, "side").evaluate("(n) => n.clientWidth") < 700:
            await tab.wait_for_timeout(50)


async def test_a_camera_has_a_page_with_its_score_and_alarm_level(tab: Page, shop: Shop) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_role("heading", name="top")).to_be_visible()
    await expect(tab.get_by_role("img", name="highest 1.60")).to_be_visible()
    slider = tab.get_by_role("slider", name="Alarm level")
    await slider.fill("1.5")
    await expect(tab.get_by_text("1.50×: about 1 alarms in the last")).to_be_visible()
    await slider.fill("1.8")
    await expect(tab.get_by_text("1.80×: about 0 alarms in the last")).to_be_visible()
    await tab.get_by_role("button", name="Use this alarm level").click()
    await expect(tab.get_by_text("The new alarm level is in use.")).to_be_visible()
    assert shop.levels == [pytest.approx(0.1 + 1.8 * 1.9)]
    back = tab.get_by_role("button", name="Back to the model's own")
    await expect(back).to_be_hidden()
    shop.line.set("top", model=ModelView("top", 3, 3.5, by_hand=True))  # as the line does then
    await expect(tab.get_by_text("The alarm level was set by hand.")).to_be_visible()
    await back.click()
    assert shop.levels[1:] == [None]


async def test_video_plays_by_webrtc_with_the_overlay_on_the_defect(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    red, green, blue = await tab.locator("video").evaluate(
        """(video, [x0, y0, x1, y1]) => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
          canvas.getContext("2d").drawImage(video, 0, 0);
          const data = canvas.getContext("2d").getImageData(x0, y0, x1 - x0, y1 - y0).data;
          const sum = [0, 0, 0];
          for (let i = 0; i < data.length; i++) if (i % 4 < 3) sum[i % 4] += data[i];
          return sum.map((s) => s / (data.length / 4));
        }""",
        [BOX[0] + 8, BOX[1] + 8, BOX[2] - 8, BOX[3] - 8],
    )
    assert red > green + 50 and red > blue + 50


async def is_red(image: Locator) -> bool:
    """Whether the defect is marked in what the screen shows of an image."""
    shot = cv2.imdecode(np.frombuffer(await image.screenshot(), np.uint8), cv2.IMREAD_COLOR_RGB)
    red, green, _ = shot[BOX[1] + 60, BOX[0] + 60].astype(int)
    return bool(red > green + 60)


async def test_a_plain_image_element_plays_mjpeg_and_is_not_a_picture_late(tab: Page, shop: Shop) -> None:
    await tab.goto(f"{shop.page.url}live")
    await tab.evaluate("() => document.body.replaceChildren(new Image(640, 480))")
    await tab.evaluate("() => (document.images[0].src = '/api/v1/cameras/top/mjpeg')")
    image = tab.locator("img")
    async with asyncio.timeout(15):
        while not await is_red(image):
            pass
        shop.bad = False
        while await is_red(image):
            pass
        shop.showing.cancel()
        shop.page.show(inspection("top", 1000, box=BOX, size=(640, 480)))
        while not await is_red(image):
            pass


async def without_webrtc(tab: Page) -> None:
    await tab.add_init_script("delete window.RTCPeerConnection")
    await tab.reload()


async def test_without_webrtc_pictures_are_shown_and_the_page_says_why(tab: Page) -> None:
    await without_webrtc(tab)
    await tab.get_by_role("link", name="top").click()
    await pictures(tab, "top", 3)
    await expect(tab.get_by_text("Single pictures, because this browser has no WebRTC.")).to_be_visible()


async def test_a_network_that_lets_no_video_pass_falls_back_by_itself(tab: Page) -> None:
    await tab.route("**/whep/*", lambda route: route.fulfill(status=503, json={"detail": "no seat is free"}))
    await tab.get_by_role("link", name="top").click()
    await pictures(tab, "top", 2)
    await expect(tab.get_by_text("Single pictures, because no seat is free.")).to_be_visible()


async def test_marks_can_be_taken_off_and_the_picture_paused(tab: Page) -> None:
    await without_webrtc(tab)
    await tab.get_by_role("link", name="top").click()
    canvas = await pictures(tab, "top", 3)
    inside = [BOX[0] + 8, BOX[1] + 8, BOX[2] - 8, BOX[3] - 8]
    assert (await canvas.evaluate(MEAN_COLOUR, inside))[0] > 150
    await tab.get_by_role("button", name="Marks").first.click()
    shown = int(await canvas.get_attribute("data-pictures") or 0)
    await pictures(tab, "top", shown + 3)
    red, green, _ = await canvas.evaluate(MEAN_COLOUR, inside)
    assert abs(red - green) < 8
    await tab.get_by_role("button", name="Pause").click()
    await expect(tab.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")


async def test_an_operator_answers_by_keyboard_and_the_picture_lands_in_the_good_folder(
    tab: Page, shop: Shop
) -> None:
    image, heatmap = shop.evidence.keep(inspection("side", box=BOX, size=(640, 480)))
    shop.line.incidents = [incident(1, "side", image=image, heatmap=heatmap)]
    shop.page.incidents_changed()
    await tab.get_by_role("link", name="Kept pictures").click()
    button = tab.get_by_role("button", name="False alarm")
    await button.focus()
    await tab.keyboard.press("Enter")
    await expect(tab.get_by_text("Filed with the good pictures")).to_be_visible()
    assert len(list((shop.folder / "pictures" / "side" / "good").glob("*.png"))) == 1
    await tab.get_by_role("combobox", name="Answer").select_option("none")
    await expect(tab.get_by_text("No pictures of defects have been kept.")).to_be_visible()


async def test_with_users_one_logs_in_and_sees_what_the_role_may(tab: Page, shop: Shop) -> None:
    shop.users_file = shop.folder / "users.yaml"
    users.write(
        shop.users_file, users.with_user(users.UsersFile(), "anna", "viewer", "correct horse battery")
    )
    await shop.page.stop()
    shop.page = shop.new_page("127.0.0.1:0")
    await shop.page.start()
    await tab.goto(shop.page.url)
    await tab.get_by_label("User").fill("anna")
    await tab.get_by_label("Password").fill("wrong password")
    await tab.keyboard.press("Enter")
    await expect(tab.get_by_role("alert").get_by_text("User or password is wrong.")).to_be_visible()
    await tab.get_by_label("Password").fill("correct horse battery")
    await tab.keyboard.press("Enter")
    await pictures(tab, "top", 2)
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    await expect(tab.get_by_role("slider", name="Alarm level")).to_be_hidden()
    await tab.get_by_role("button", name="Log out anna").click()
    await expect(tab.get_by_label("Password")).to_be_visible()
