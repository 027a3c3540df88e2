"""What the page says of answers, refusals and times stays true while it is open; in a real browser."""

import asyncio
import time

from playwright.async_api import Locator, Page, Route, expect

from engine.artifact import save
from stream.training import TrainingState
from tests.browsing import BOX, MARKS, Shop
from tests.models import tiny_artifact
from tests.webline import incident, inspection

pytestmark = MARKS

BUSY = "Something else is at work; try again later."


async def kept_pictures(tab: Page, shop: Shop, shown: int = 1) -> tuple[Locator, Locator]:
    """The gallery with one more picture: the button "False alarm", and the choice of answers."""
    shop.evidence.keep(inspection("side", box=BOX, size=(640, 480)))
    await tab.goto(shop.page.url + "#/incidents")
    await expect(tab.get_by_role("article")).to_have_count(shown)
    return tab.get_by_role("button", name="False alarm"), tab.get_by_role("combobox", name="Answer")


async def test_a_card_says_what_was_answered_last_in_every_list(tab: Page, shop: Shop) -> None:
    button, answers = await kept_pictures(tab, shop)
    await button.click()
    await expect(tab.get_by_text("Filed with the good pictures")).to_be_visible()
    await answers.select_option("confirmed")
    await expect(tab.get_by_text("No pictures of defects")).to_be_visible()
    for chosen in ("false_alarm", ""):
        await answers.select_option(chosen)
        await expect(button).to_have_attribute("aria-pressed", "true")
    await button.click()
    await expect(button).to_have_attribute("aria-pressed", "false")
    await answers.select_option("confirmed")
    await expect(tab.get_by_text("No pictures of defects")).to_be_visible()
    await answers.select_option("none")
    await expect(button).to_have_attribute("aria-pressed", "false")
    await expect(tab.get_by_role("article").get_by_text("false alarm", exact=True)).to_be_hidden()
    await button.click()
    await expect(tab.get_by_text("Filed with the good pictures")).to_be_visible()
    assert [item.feedback for item in shop.evidence.items()] == ["false_alarm"]


async def test_a_card_hears_what_was_answered_in_another_window(tab: Page, shop: Shop) -> None:
    button, answers = await kept_pictures(tab, shop)
    await button.click()
    await expect(tab.get_by_text("Filed with the good pictures")).to_be_visible()
    await answers.select_option("false_alarm")
    item = shop.evidence.items()[0]
    path = f"{shop.page.url}api/v1/evidence/{item.camera}/{item.stem}/feedback"
    await tab.request.put(path, data={"feedback": "confirmed"})
    # It stays where it is, for nothing may move under a finger.
    confirmed = tab.get_by_role("button", name="Confirmed")
    await expect(confirmed).to_have_attribute("aria-pressed", "true")
    await expect(button).to_have_attribute("aria-pressed", "false")
    await expect(tab.get_by_text("Filed with the good pictures")).to_be_hidden()
    await tab.get_by_role("link", name="Look closer").click()
    await expect(confirmed).to_have_attribute("aria-pressed", "true")
    await tab.request.put(path, data={"feedback": None})
    await expect(confirmed).to_have_attribute("aria-pressed", "false")


async def test_who_comes_back_from_a_picture_finds_the_list_as_it_was(tab: Page, shop: Shop) -> None:
    for number in range(26):
        made = inspection("side", box=BOX, size=(64, 48))
        made.frame.pixels[0, 0] = number  # its name is made of its pixels
        shop.evidence.keep(made)
    _, answers = await kept_pictures(tab, shop, 24)
    await tab.get_by_role("combobox", name="Camera").select_option("side")
    await answers.select_option("none")
    await tab.get_by_role("button", name="Older ones").click()
    cards = tab.get_by_role("article")
    await expect(cards).to_have_count(27)
    last = cards.last.get_by_role("link", name="Look closer")
    for back in (tab.go_back, tab.get_by_role("link", name="Back to the kept pictures").click):
        await last.click()
        await expect(tab).to_have_title("line-1 – Kept picture of side – Linewatch")
        await back()
        await expect(cards).to_have_count(27)
        await expect(last).to_be_focused()
        await expect(last).to_be_in_viewport()
        await expect(answers).to_have_value("none")
        await expect(tab.get_by_role("combobox", name="Camera")).to_have_value("side")
    await tab.reload()  # as it does by itself; nobody came back
    await expect(cards).to_have_count(27)
    assert await tab.evaluate("document.activeElement === document.body")


async def test_a_card_that_left_the_list_is_forgotten(tab: Page, shop: Shop) -> None:
    _, answers = await kept_pictures(tab, shop)
    await tab.evaluate("() => { window.card = new WeakRef(document.querySelector('main article')); }")
    await answers.select_option("confirmed")
    await expect(tab.get_by_text("No pictures of defects")).to_be_visible()
    browser = await tab.context.new_cdp_session(tab)
    async with asyncio.timeout(10):
        while await tab.evaluate("() => Boolean(window.card.deref())"):
            await browser.send("HeapProfiler.collectGarbage")


async def message(tab: Page, shop: Shop, reason: str) -> None:
    """Returns when the page has heard of the line once more."""
    shop.line.set("top", state="down", reason=reason)
    shop.page.camera_changed()
    await expect(tab.get_by_text(f"The camera is down: {reason}")).to_be_visible()


async def refuse(tab: Page, path: str) -> None:
    """POSTs there are answered with BUSY."""

    async def answer(route: Route) -> None:
        post = route.request.method == "POST"
        await (route.fulfill(status=409, json={"detail": BUSY}) if post else route.fallback())

    await tab.route(path, answer)


async def test_why_a_training_was_refused_stays_until_the_next_press(tab: Page, shop: Shop) -> None:
    shop.good_pictures(12)
    shop.teaching.trainer.state = TrainingState("side", "side", "failed", time.time(), reason="No room.")
    await refuse(tab, "**/api/v1/training")
    await tab.goto(shop.page.url + "#/teach/top")
    await expect(tab.get_by_text("It did not work: No room.")).to_be_visible()
    await tab.get_by_role("button", name="Train", exact=True).click()
    await expect(tab.get_by_text(BUSY)).to_be_visible()
    for reason in ("The cable is out.", "The plug is out."):
        await message(tab, shop, reason)
    await expect(tab.get_by_text(BUSY)).to_be_visible()
    await tab.unroute("**/api/v1/training")
    await tab.get_by_role("button", name="Train", exact=True).click()
    await expect(tab.get_by_text(BUSY)).to_be_hidden()


async def test_why_collecting_was_refused_stays_until_the_next_press(tab: Page, shop: Shop) -> None:
    shop.bad, shop.noisy = False, True
    await tab.goto(shop.page.url + "#/teach/top")
    await tab.get_by_label("Pictures", exact=True).fill("2")
    await tab.get_by_role("button", name="Collect").click()
    await expect(tab.get_by_text("2 of 2 collected")).to_be_visible()
    await refuse(tab, "**/api/v1/cameras/top/pictures")
    await tab.get_by_role("button", name="Collect").click()
    await expect(tab.get_by_text(BUSY)).to_be_visible()
    for reason in ("The cable is out.", "The plug is out."):
        await message(tab, shop, reason)
    await expect(tab.get_by_text(BUSY)).to_be_visible()
    await tab.unroute("**/api/v1/cameras/top/pictures")
    await tab.get_by_role("button", name="Collect").click()
    await expect(tab.get_by_text(BUSY)).to_be_hidden()


async def test_the_first_version_ends_the_word_that_there_is_none(tab: Page, shop: Shop) -> None:
    await tab.goto(shop.page.url + "#/teach/top")
    await expect(tab.get_by_text("No version yet")).to_be_visible()
    shop.teaching.trainer.state = TrainingState("top", "top", "learning", time.time(), step=40, steps=100)
    await expect(tab.get_by_text("Learning: 40 %")).to_be_visible()
    save(tiny_artifact(name="top"), shop.folder / "models")
    done = TrainingState("top", "top", "done", time.time(), version=1, good_pictures=12)
    shop.teaching.trainer.state = done
    await expect(tab.get_by_role("rowheader", name="1", exact=True)).to_be_visible()
    await expect(tab.get_by_text("No version yet")).to_be_hidden()


async def test_what_was_noticed_last_is_shown_also_when_it_is_as_many(tab: Page, shop: Shop) -> None:
    await tab.goto(shop.page.url + "#/teach/top")
    notes = tab.locator("details li")
    for said in (["One.", "Two."], ["Two.", "Three."]):
        shop.teaching.trainer.state = TrainingState("top", "top", "learning", time.time(), notes=tuple(said))
        await expect(notes).to_have_text(said)
    await expect(tab.get_by_role("button", name="Cancel")).to_be_visible()
    shop.teaching.trainer.state = TrainingState("side", "side", "learning", time.time(), step=40, steps=100)
    await expect(tab.get_by_text("Camera side: Learning: 40 %")).to_be_visible()
    await expect(tab.get_by_role("button", name="Cancel")).to_be_hidden()
    await expect(tab.get_by_role("button", name="Train", exact=True)).to_be_disabled()


async def test_an_incident_of_another_day_says_which(tab: Page, shop: Shop) -> None:
    now = time.time()
    shop.line.incidents = [
        incident(2, "top", opened_at=now),
        incident(1, "side", opened_at=now - 3 * 86400, closed_at=now - 3 * 86400 + 5),
    ]
    shop.page.incidents_changed()
    entries = tab.get_by_label("Incidents").get_by_role("listitem")
    day = "(seconds) => new Date(1000 * seconds).toLocaleDateString([], { dateStyle: 'medium' })"
    then, today = [await tab.evaluate(day, at) for at in (now - 3 * 86400, now)]
    await expect(entries.filter(has_text="side")).to_contain_text(then)
    await expect(entries.filter(has_text="top")).to_contain_text("still there")
    await expect(entries.filter(has_text="top")).not_to_contain_text(today)
