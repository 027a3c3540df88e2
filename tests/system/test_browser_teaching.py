"""Teaching in a real browser: collect, train, look at the report, use it; areas drawn on the picture."""

import pytest
from playwright.async_api import Browser, Page, expect

from config.load import load
from engine import versions
from engine.artifact import save
from stream.web import users
from stream.web.view import ModelView
from tests.browsing import MARKS, Shop, open_tab, pictures
from tests.models import tiny_artifact

pytestmark = MARKS


async def teach(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await tab.get_by_role("link", name="Teach").click()
    await expect(tab.get_by_role("heading", name="Teach top")).to_be_visible()


async def test_good_pictures_are_collected_with_a_counter_and_a_bad_one_is_taken_out(
    tab: Page, shop: Shop
) -> None:
    shop.bad, shop.noisy = False, True
    await teach(tab)
    await tab.get_by_label("Pictures", exact=True).fill("4")
    await tab.get_by_role("button", name="Collect").click()
    await expect(tab.get_by_text("4 of 4 collected")).to_be_visible()
    await expect(tab.get_by_text("4 good pictures,")).to_be_visible()
    await tab.get_by_role("button", name="Remove: Good picture").first.click()
    await expect(tab.get_by_text("3 good pictures,")).to_be_visible()
    assert len(list((shop.folder / "pictures" / "top" / "good").glob("*.png"))) == 3


async def test_pictures_with_a_defect_are_left_out_and_the_page_says_so(tab: Page, shop: Shop) -> None:
    await teach(tab)
    await tab.get_by_role("button", name="Collect").click()
    await expect(tab.get_by_text("a defect was seen", exact=False).last).to_be_visible()
    await tab.get_by_role("button", name="Stop").click()
    await expect(tab.get_by_text("It was stopped.")).to_be_visible()


@pytest.mark.timeout(300)  # it gets what a busy machine leaves
async def test_one_trains_reads_the_report_and_uses_the_new_version(tab: Page, shop: Shop) -> None:
    shop.good_pictures(12)
    await teach(tab)
    await tab.get_by_role("button", name="Train", exact=True).click()
    await expect(tab.get_by_role("button", name="Cancel")).to_be_visible()
    await tab.reload()  # the training is the line's, not the page's
    await expect(tab.get_by_role("button", name="Cancel")).to_be_visible()
    await expect(tab.get_by_text("Version 1 is ready, made from 12 pictures.")).to_be_visible(timeout=240_000)
    report = tab.frame_locator("iframe[title='Report of version 1']")
    await expect(report.get_by_role("heading", name="What good pictures score")).to_be_visible()
    await tab.get_by_role("button", name="Use version 1").click()
    await expect(tab.get_by_text("Version 1 is chosen")).to_be_visible()
    shop.line.set("top", model=ModelView("top", 1, 2.0))  # as the line does when it has loaded it
    await expect(tab.get_by_text("in use", exact=True)).to_be_visible()
    assert versions.latest(shop.folder / "models", "top") == 1


async def test_one_goes_back_to_the_version_before(tab: Page, shop: Shop) -> None:
    for _ in range(2):
        save(tiny_artifact(name="top"), shop.folder / "models")
    shop.line.set("top", model=ModelView("top", 2, 2.0))
    await teach(tab)
    await tab.get_by_role("button", name="Go back to version 1").click()
    await expect(tab.get_by_text("Version 1 is chosen")).to_be_visible()
    assert versions.latest(shop.folder / "models", "top") == 1


async def test_too_few_pictures_to_train_from_are_said_before_anybody_tries(tab: Page, shop: Shop) -> None:
    shop.good_pictures(3)
    await teach(tab)
    await expect(tab.get_by_text("At least 10 good pictures are needed")).to_be_visible()
    await expect(tab.get_by_role("button", name="Train", exact=True)).to_be_disabled()


async def area_of(tab: Page) -> tuple[float, float, float, float]:
    """Where the picture itself is on the screen: x, y, width, height; 4:3, in the middle of its box."""
    box = await tab.locator("svg.zones").bounding_box()
    assert box is not None
    width = min(box["width"], box["height"] * 4 / 3)
    height = width * 3 / 4
    return box["x"] + (box["width"] - width) / 2, box["y"] + (box["height"] - height) / 2, width, height


async def edit_areas(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    await tab.get_by_role("button", name="Edit areas").click()


async def test_an_area_is_drawn_on_the_picture_and_a_mask_beside_it(tab: Page, shop: Shop) -> None:
    await edit_areas(tab)
    await tab.get_by_role("button", name="Draw the area to inspect").click()
    left, top, width, height = await area_of(tab)
    for x, y in ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2)):
        await tab.mouse.click(left + x * width, top + y * height)
    await tab.get_by_role("button", name="Draw a mask").click()
    for x, y in ((0.4, 0.4), (0.6, 0.4), (0.5, 0.6)):
        await tab.mouse.click(left + x * width, top + y * height)
    await tab.keyboard.press("Enter")
    await tab.get_by_label("Name of the mask").fill("label")
    await tab.get_by_role("button", name="Use these areas").click()
    await expect(tab.get_by_text("In use from the next picture on")).to_be_visible()
    camera = load(shop.folder / "cameras.yaml").cameras["top"]
    assert camera.roi is not None
    for (x, y), (px, py) in zip(((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)), camera.roi, strict=True):
        assert (px, py) == (pytest.approx(x, abs=0.01), pytest.approx(y, abs=0.01))
    assert camera.masks["label"].polygon[2] == (pytest.approx(0.5, abs=0.01), pytest.approx(0.6, abs=0.01))
    await tab.get_by_role("button", name="Back to the config file's").click()
    await expect(tab.get_by_text("The config file's areas are in use.")).to_be_visible()
    assert load(shop.folder / "cameras.yaml").cameras["top"].roi is None


async def test_an_area_that_is_not_finished_is_not_lost_in_silence(tab: Page, shop: Shop) -> None:
    await edit_areas(tab)
    await tab.get_by_role("button", name="Draw a mask").click()
    left, top, width, height = await area_of(tab)
    for x, y in ((0.4, 0.4), (0.6, 0.4), (0.5, 0.6)):
        await tab.mouse.click(left + x * width, top + y * height)
    await tab.get_by_role("button", name="Use these areas").click()
    await expect(tab.get_by_text("An area is not finished")).to_be_visible()
    await tab.get_by_role("button", name="Delete", exact=True).click()
    await expect(tab.get_by_text("An area is not finished")).to_be_hidden()
    await expect(tab.locator("svg .drawing")).to_have_count(0)
    await tab.get_by_role("button", name="Use these areas").click()
    await expect(tab.get_by_text("In use from the next picture on")).to_be_visible()


async def test_a_mask_is_drawn_by_keyboard_alone(tab: Page, shop: Shop) -> None:
    await edit_areas(tab)
    await tab.get_by_role("button", name="Rectangle").press("Enter")
    await expect(tab.get_by_role("button", name="Corner 1 of 4 of mask mask1")).to_be_focused()
    for _ in range(2):
        await tab.keyboard.press("Shift+ArrowRight")
    await tab.keyboard.press("ArrowUp")
    await expect(tab.get_by_role("button", name="Corner 1 of 4 of mask mask1, 40 % across")).to_be_focused()
    await tab.get_by_role("button", name="Add a corner between 2 and 3").press("Enter")
    await expect(tab.get_by_role("button", name="Corner 3 of 5 of mask mask1")).to_be_focused()
    await tab.keyboard.press("Delete")
    await tab.get_by_role("button", name="Use these areas").press("Enter")
    await expect(tab.get_by_text("In use from the next picture on")).to_be_visible()
    assert load(shop.folder / "cameras.yaml").cameras["top"].masks["mask1"].polygon == (
        (0.4, 0.295), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7),
    )  # fmt: skip


async def test_what_another_window_has_drawn_meanwhile_is_not_drawn_over(tab: Page, shop: Shop) -> None:
    await edit_areas(tab)
    await tab.get_by_role("button", name="Rectangle").click()
    other = {"roi": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}
    answer = await tab.request.put(f"{tab.url.split('#')[0]}api/v1/cameras/top/zones", data=other)
    assert answer.ok
    await tab.get_by_role("button", name="Use these areas").click()
    await expect(tab.get_by_text("were changed meanwhile")).to_be_visible()
    await tab.get_by_role("button", name="Discard").click()
    await expect(tab.get_by_text("area to inspect", exact=True)).to_be_visible()
    camera = load(shop.folder / "cameras.yaml").cameras["top"]
    assert camera.roi is not None and camera.masks == {}


async def test_what_another_window_draws_is_seen_without_loading_the_page_again(tab: Page) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("The whole picture is inspected.")).to_be_visible()
    other = {"masks": {"label": {"polygon": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}}}
    answer = await tab.request.put(f"{tab.url.split('#')[0]}api/v1/cameras/top/zones", data=other)
    assert answer.ok
    await expect(tab.get_by_text("mask: label")).to_be_visible(timeout=10_000)


async def test_a_corner_can_be_dragged(tab: Page, shop: Shop) -> None:
    await edit_areas(tab)
    await tab.get_by_role("button", name="Draw the area to inspect").click()
    await tab.get_by_role("button", name="Rectangle").click()
    left, top, width, height = await area_of(tab)
    await tab.mouse.move(left + 0.3 * width, top + 0.3 * height)
    await tab.mouse.down()
    await tab.mouse.move(left + 0.1 * width, top + 0.1 * height, steps=3)
    await tab.mouse.up()
    await tab.get_by_role("button", name="Use these areas").click()
    await expect(tab.get_by_text("In use from the next picture on")).to_be_visible()
    roi = load(shop.folder / "cameras.yaml").cameras["top"].roi
    assert roi is not None and roi[0] == (pytest.approx(0.1, abs=0.01), pytest.approx(0.1, abs=0.01))
    assert roi[2] == (0.7, 0.7)


async def test_areas_that_cross_themselves_are_refused_in_words_and_stay_to_be_mended(
    tab: Page, shop: Shop
) -> None:
    await edit_areas(tab)
    await tab.get_by_role("button", name="Draw the area to inspect").click()
    left, top, width, height = await area_of(tab)
    for x, y in ((0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8)):
        await tab.mouse.click(left + x * width, top + y * height)
    await tab.keyboard.press("Enter")
    await tab.get_by_role("button", name="Use these areas").click()
    await expect(tab.get_by_text("its sides cross")).to_be_visible()
    await expect(tab.get_by_role("button", name="Corner 1 of 4")).to_be_visible()
    await tab.get_by_role("button", name="Discard").click()
    await expect(tab.get_by_text("The whole picture is inspected.")).to_be_visible()


async def logged_in(browser: Browser, shop: Shop, role: users.Role) -> None:
    shop.users_file = shop.folder / "users.yaml"
    users.write(shop.users_file, users.with_user(users.UsersFile(), role, role, "correct horse battery"))
    await shop.page.stop()
    shop.page = shop.new_page("127.0.0.1:0")
    await shop.page.start()


async def log_in(tab: Page, role: users.Role) -> None:
    await tab.get_by_label("User").fill(role)
    await tab.get_by_label("Password").fill("correct horse battery")
    await tab.keyboard.press("Enter")


async def test_what_was_drawn_when_the_session_ended_is_offered_after_the_login(
    browser: Browser, shop: Shop
) -> None:
    await logged_in(browser, shop, "admin")
    async with open_tab(browser, shop.page.url) as tab:
        await log_in(tab, "admin")
        await edit_areas(tab)
        await tab.get_by_role("button", name="Rectangle").click()
        await tab.get_by_role("button", name="Draw a mask").click()
        left, top, width, height = await area_of(tab)
        await tab.mouse.click(left + 0.1 * width, top + 0.1 * height)
        await tab.context.clear_cookies()
        await tab.evaluate("dispatchEvent(new Event('loggedout'))")
        await log_in(tab, "admin")
        await tab.get_by_role("button", name="Go on with what was drawn and not used").click()
        await expect(tab.locator("svg .drawing")).to_have_count(1)
        await tab.get_by_role("button", name="Delete", exact=True).click()
        await tab.get_by_role("button", name="Use these areas").click()
        await expect(tab.get_by_text("In use from the next picture on")).to_be_visible()
        assert [*load(shop.folder / "cameras.yaml").cameras["top"].masks] == ["mask1"]
        await tab.reload()
        await expect(tab.get_by_role("button", name="Edit areas")).to_be_visible()
        await expect(tab.get_by_role("button", name="Go on with what was drawn")).to_be_hidden()


@pytest.mark.parametrize(
    ("role", "collects", "promotes"),
    [("viewer", False, False), ("operator", True, False), ("admin", True, True)],
)
async def test_each_role_is_offered_what_it_may(
    browser: Browser, shop: Shop, role: users.Role, collects: bool, promotes: bool
) -> None:
    for _ in range(2):
        save(tiny_artifact(name="top"), shop.folder / "models")
    await logged_in(browser, shop, role)
    async with open_tab(browser, shop.page.url) as tab:
        await log_in(tab, role)
        await pictures(tab, "top", 1)
        await tab.goto(f"{shop.page.url}#/teach/top")
        await expect(tab.get_by_role("rowheader", name="2", exact=True)).to_be_visible()
        await expect(tab.get_by_role("button", name="Collect")).to_be_visible(visible=collects)
        await expect(tab.get_by_role("button", name="Use version 1")).to_be_visible(visible=promotes)
        await expect(tab.get_by_role("button", name="Go back")).to_be_visible(visible=promotes)
        await tab.goto(f"{shop.page.url}#/camera/top")
        await expect(tab.get_by_role("heading", name="Areas")).to_be_visible()
        await expect(tab.get_by_role("button", name="Edit areas")).to_be_visible(visible=promotes)
