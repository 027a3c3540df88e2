"""How the page reads and feels: contrast, names for screen readers, pause, full screen, one incident."""

import asyncio
import time

import pytest
from playwright.async_api import Browser, Page, Route, expect

from stream.web.view import VerdictView
from tests.browsing import BOX, MARKS, Shop, pictures, tile
from tests.webline import incident, inspection

pytestmark = MARKS

# WCAG's contrast of every visible text against the first opaque background behind it; those below 4.5.
PALE = """() => {
  const rgb = (css) => (css.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const colour = rgb(getComputedStyle(n).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const pale = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("svg") || node.disabled) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) pale.push(`${node.tagName} ${node.textContent.trim().slice(0, 40)}`);
  }
  return pale;
}"""
# What one can operate and has no name, or is too small for a finger.
NAMELESS = """() => [...document.querySelectorAll("button, a[href], input, select, iframe, video, canvas")]
  .filter((n) => n.checkVisibility() && !n.getAttribute("aria-label") && !n.textContent.trim() && !n.alt
    && !n.title && !(n.labels?.length)).map((n) => n.outerHTML.slice(0, 80))
  .concat([...document.images].filter((n) => !n.hasAttribute("alt")).map((n) => n.src))"""
SMALL = """() => [...document.querySelectorAll("button, .button, select, input:not([type=checkbox])")]
  .filter((n) => n.checkVisibility() && n.getBoundingClientRect().height < 40)
  .map((n) => n.outerHTML.slice(0, 80))"""


async def everywhere(tab: Page, shop: Shop) -> list[str]:
    """The addresses of every kind of page, with something on each."""
    image, heatmap = shop.evidence.keep(inspection("top", box=BOX, size=(640, 480)))
    shop.line.incidents = [incident(1, "top", image=image, heatmap=heatmap)]
    shop.line.set("side", state="down", reason="The camera does not answer.", since=time.time() - 65)
    shop.line.set("top", verdict=VerdictView("ng", 1.6, 1, time.time()))
    shop.page.incidents_changed()
    shop.good_pictures(3)
    assert image is not None
    stem = image.removeprefix("evidence/").removesuffix(".png")
    return ["#/", "#/camera/top", "#/camera/side", "#/teach/top", "#/incidents", f"#/incident/{stem}"]


@pytest.mark.parametrize("theme", ["dark", "light"])
async def test_every_text_can_be_read_in_both_themes(tab: Page, shop: Shop, theme: str) -> None:
    for place in await everywhere(tab, shop):
        await tab.goto(shop.page.url + place)
        await tab.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        await expect(tab.get_by_role("main")).not_to_be_empty()
        await tab.wait_for_timeout(600)
        assert await tab.evaluate(PALE) == [], place


async def test_everything_has_a_name_and_fits_a_finger_and_no_page_scrolls_sideways(
    tab: Page, shop: Shop
) -> None:
    for place in await everywhere(tab, shop):
        await tab.goto(shop.page.url + place)
        await expect(tab.get_by_role("main")).not_to_be_empty()
        await tab.wait_for_timeout(600)
        assert await tab.evaluate(NAMELESS) == [], place
        assert await tab.evaluate(SMALL) == [], place
        for width in (1024, 768, 400, 320):
            await tab.set_viewport_size({"width": width, "height": 768})
            assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), (place, width)


async def test_a_paused_picture_says_since_when_and_goes_on_when_told(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    await tab.get_by_role("button", name="Pause").click()
    await expect(tab.get_by_text("Paused at")).to_be_visible()
    held = await tab.locator("canvas[aria-label^='Camera']").evaluate("(c) => [c.hidden, c.width]")
    assert held == [False, 640]  # the video's last picture, in its own size
    await tab.get_by_role("button", name="Pause").click()
    await expect(tab.get_by_text("Paused at")).to_be_hidden()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()


async def test_a_paused_picture_keeps_its_time_whatever_is_pressed(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    await tab.get_by_role("button", name="Pause").click()
    paused = await tab.get_by_text("Paused at").text_content() or ""
    await tab.wait_for_timeout(1100)
    await tab.get_by_role("region", name="Camera top").get_by_role("button", name="Marks").click()
    await expect(tab.get_by_text("Paused at")).to_have_text(paused)


async def test_what_is_below_the_picture_stays_under_the_finger_as_video_takes_over(tab: Page) -> None:
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        await held.wait()
        await route.continue_()

    async def below() -> float:
        box = await tab.get_by_role("button", name="Edit areas").bounding_box()
        assert box is not None
        return box["y"]

    await tab.route("**/whep/*", hold)
    await tab.get_by_role("link", name="top").click()
    await pictures(tab, "top", 2)
    await expect(tab.get_by_role("button", name="Edit areas")).to_be_enabled()
    before = await below()
    held.set()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    assert await below() == before
    await tab.get_by_role("button", name="Pause").click()
    await expect(tab.get_by_text("Paused at")).to_be_visible()
    assert await below() == before


async def test_the_picture_fills_the_screen(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    await tab.get_by_role("button", name="Full screen").click()
    await tab.wait_for_function("document.fullscreenElement?.classList.contains('screen')")


async def test_a_browser_that_fills_no_screen_is_offered_none(tab: Page) -> None:
    await tab.add_init_script("delete Element.prototype.requestFullscreen")
    await tab.reload()
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_role("button", name="Pause")).to_be_visible()
    await expect(tab.get_by_role("button", name="Full screen")).to_be_hidden()


async def test_the_cameras_page_shows_its_last_verdict_and_numbers(tab: Page, shop: Shop) -> None:
    shop.line.set("top", verdict=VerdictView("ng", 1.6, 1, time.time()), latency_ms=51.2)
    await tab.get_by_role("link", name="top").click()
    card = tab.get_by_role("region", name="Camera top")
    await expect(card.get_by_text("NG", exact=True)).to_be_visible()
    await expect(card.get_by_text("1.60×")).to_be_visible()
    await expect(card.get_by_text("top@3")).to_be_visible()


async def test_a_camera_that_is_not_inspected_says_why(tab: Page, shop: Shop) -> None:
    why = "There is no model side in var/models: train it first."
    shop.line.set("side", model=None, verdict=None, not_inspected=why)
    await expect(tile(tab, "side").get_by_text(f"Not inspected: {why}")).to_be_visible()


async def test_an_incident_leads_to_its_picture_its_score_and_its_answer(tab: Page, shop: Shop) -> None:
    await pictures(tab, "top", 5)
    image, heatmap = shop.evidence.keep(inspection("top", box=BOX, size=(640, 480)))
    shop.line.incidents = [incident(1, "top", image=image, heatmap=heatmap)]
    shop.page.incidents_changed()
    await tab.get_by_role("listitem").get_by_role("link", name="top").click()
    await expect(tab.get_by_role("img", name="Defect on top")).to_be_visible()
    await expect(tab.get_by_role("img", name="Score of the 40 seconds around this picture")).to_be_visible()
    await tab.get_by_role("button", name="Confirmed").click()
    await expect(tab.get_by_role("button", name="Confirmed")).to_have_attribute("aria-pressed", "true")
    assert shop.evidence.items()[0].feedback == "confirmed"


async def test_moving_the_slider_shows_the_last_hour(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await tab.get_by_role("slider", name="Alarm level").fill("1.2")
    await expect(tab.get_by_role("combobox", name="How much of the past is shown")).to_have_value("3600")


async def test_the_legend_says_what_the_colours_mean(tab: Page) -> None:
    legend = tab.get_by_role("region", name="Colours of the heat map")
    await expect(legend.get_by_role("img", name="red is above it")).to_be_visible()
    await expect(legend.get_by_text("alarm level")).to_be_visible()
    assert "gradient" in await legend.get_by_role("img").evaluate("(n) => n.style.background")


async def test_whoever_skips_to_the_pictures_stays_on_the_same_page(tab: Page, shop: Shop) -> None:
    await tab.goto(shop.page.url + "#/camera/top")
    await expect(tab.get_by_role("heading", name="top")).to_be_visible()
    await tab.get_by_role("link", name="To the pictures").press("Enter")
    await expect(tab.get_by_role("main")).to_be_focused()
    assert tab.url.endswith("#/camera/top")


async def test_the_page_that_is_open_is_told_to_screen_readers(tab: Page) -> None:
    pages = tab.get_by_role("navigation", name="Pages")
    await expect(tab).to_have_title("line-1 – Cameras – Linewatch")
    await pages.get_by_role("link", name="Kept pictures").press("Enter")
    await expect(pages.get_by_role("link", name="Kept pictures")).to_have_attribute("aria-current", "page")
    assert await pages.get_by_role("link", name="Cameras").get_attribute("aria-current") is None
    await expect(tab).to_have_title("line-1 – Kept pictures – Linewatch")
    await expect(tab.get_by_role("main", name="Kept pictures")).to_be_focused()


async def test_a_screen_reader_is_told_once_why_the_line_is_not_ready(tab: Page, shop: Shop) -> None:
    shop.line.reasons = ["The broker does not answer."]
    shop.page.camera_changed()
    await expect(tab.get_by_role("alert")).to_have_text("The broker does not answer.")
    await tab.evaluate(
        """() => {
          window.told = 0;
          new MutationObserver(() => { window.told++; }).observe(
            document.getElementById("reasons"), { childList: true, characterData: true, subtree: true });
        }"""
    )
    shop.line.cameras = shop.line.cameras[:1]
    shop.page.camera_changed()
    await expect(tile(tab, "side")).to_have_count(0)  # the line's state came again
    assert await tab.evaluate("window.told") == 0
    shop.line.reasons = ["The disk is full."]
    shop.page.camera_changed()
    await expect(tab.get_by_role("alert")).to_have_text("The disk is full.")
    assert await tab.evaluate("window.told") == 1


async def test_kept_pictures_that_somebody_reads_stay_under_the_finger(tab: Page, shop: Shop) -> None:
    def keep(number: int) -> None:
        made = inspection("top", box=BOX, size=(640, 480))
        made.frame.pixels[0, 0] = number  # its name is made of its pixels
        shop.evidence.keep(made)

    for number in range(12):
        keep(number)
    await tab.goto(f"{shop.page.url}#/incidents")
    cards = tab.get_by_role("article")
    await expect(cards).to_have_count(12)
    await cards.last.scroll_into_view_if_needed()
    last = await cards.last.get_attribute("aria-label"), await cards.last.bounding_box()
    keep(12)
    await tab.wait_for_timeout(2500)
    assert last == (await cards.last.get_attribute("aria-label"), await cards.last.bounding_box())
    # At the top they come by themselves: a finger that is on its way there meant another one.
    press = "document.querySelector('main article button:nth-child(2)').click()"
    await tab.evaluate(
        f"new MutationObserver(() => {press}).observe(document.querySelector('.cards'), {{childList: true}})"
    )
    await tab.evaluate("scrollTo(0, 0)")
    await expect(cards).to_have_count(13)
    await expect(tab.get_by_text("The pictures have just moved: press again.")).to_be_visible()
    assert not any(item.feedback for item in shop.evidence.items())
    await tab.wait_for_timeout(700)
    await tab.evaluate(press)
    await expect(tab.get_by_text("Filed with the good pictures")).to_be_visible()


async def test_a_browser_that_keeps_nothing_shows_the_page(browser: Browser, shop: Shop) -> None:
    tab = await browser.new_page()
    refuse = "get() { throw new DOMException('', 'SecurityError'); }"
    await tab.add_init_script(f"Object.defineProperty(window, 'localStorage', {{ {refuse} }});")
    await tab.goto(shop.page.url)
    await expect(tab.get_by_role("article")).to_have_count(2)
    before = await tab.evaluate("document.documentElement.dataset.theme")
    await tab.get_by_role("button", name="Switch between dark and light").click()
    assert await tab.evaluate("document.documentElement.dataset.theme") != before


async def test_a_garbled_address_is_no_script_error(tab: Page, shop: Shop) -> None:
    await tab.goto(f"{shop.page.url}#/camera/%E0%A4%A")
    await expect(tab.get_by_text("There is no camera of this name.")).to_be_visible()
