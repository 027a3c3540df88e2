"""The page never shows an old picture without a word: refused, silent, lost and hidden, in a real browser."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from stream.web import users
from tests.browsing import MARKS, MEAN_COLOUR, Shop, open_tab, pictures, tile

pytestmark = MARKS

FULL = "Too many pages are open: 2 streams, which is the limit. Close one."
# A headless page is never hidden by itself.
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
AN_HOUR_FAST = "Date.now = ((now) => () => now() + 3600000)(Date.now);"
SIX_SECONDS_LATER = "performance.now = ((now) => () => now() + 6000)(performance.now.bind(performance));"
TWO_LOOKS = "new Promise((done) => setTimeout(done, 1100))"  # the page looks whether all is well each 500 ms
# What `fresh.js` says, second by second, of a camera whose pictures come in the seconds `comes`; `age` is how
# old the line says its newest is, until second `told`.
TOLD = """async ([seconds, fps, comes, age, told]) => {
  const { freshness } = await import("/static/fresh.js");
  const fresh = freshness(0);
  const said = [];
  for (let s = 1; s <= seconds; s++) {
    if (comes.includes(s)) fresh.shown(1000 * s, 1.7e12 + 1000 * s, s);
    const camera = { state: "live", fps, frame_age_s: age[s - 1] };
    if (s <= told) fresh.told(1000 * s + 1, 1.7e12 + 1000 * s, camera);
    said.push(fresh.words(1000 * s + 2).split(/ (since|of) /)[0]);
  }
  return said;
}"""


@dataclass
class Network:
    """Between browser and server; `cut()` lets nothing pass any more over the connections that there are."""

    port: int = 0
    open: bool = True
    cuts: int = 0
    ends: list[asyncio.StreamWriter] = field(default_factory=list)
    joined: set[asyncio.Task[None] | None] = field(default_factory=set)

    def cut(self) -> None:
        self.open = False
        self.cuts += 1

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.joined.add(asyncio.current_task())
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        self.ends += [writer, to_server]
        await asyncio.gather(self.pump(reader, to_server), self.pump(from_server, writer))
        self.joined.discard(asyncio.current_task())

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = self.cuts
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.open and mine == self.cuts:
                    writer.write(data)
                    await writer.drain()
        writer.close()

    async def close(self) -> None:
        for end in self.ends:
            end.close()
        await asyncio.gather(*(task for task in self.joined if task))


@contextlib.asynccontextmanager
async def network_to(shop: Shop) -> AsyncIterator[tuple[Network, str]]:
    network = Network(urlsplit(shop.page.url).port or 0)
    listener = await asyncio.start_server(network.join, "127.0.0.1", 0)
    yield network, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    listener.close()
    await network.close()


async def shown(tab: Page, name: str = "top") -> int:
    return int(await tile(tab, name).locator("canvas").get_attribute("data-pictures") or 0)


async def refuse_pictures(tab: Page, status: int, detail: str) -> None:
    await tab.route("**/api/v1/mjpeg?**", lambda route: route.fulfill(status=status, json={"detail": detail}))


async def hidden_until_nobody_watches(tab: Page, shop: Shop) -> None:
    await tab.evaluate(HIDE, True)
    async with asyncio.timeout(10):
        while shop.page.stats().viewers:
            await tab.wait_for_timeout(20)


async def test_a_hidden_page_takes_no_connection_and_goes_on_when_it_is_looked_at(
    tab: Page, shop: Shop
) -> None:
    await pictures(tab, "top", 2)
    await hidden_until_nobody_watches(tab, shop)
    shop.line.set("top", state="down", reason="The cable is out.")
    await tab.evaluate(HIDE, False)
    await expect(tile(tab, "top").get_by_text("The cable is out.")).to_be_visible()
    await pictures(tab, "side", await shown(tab, "side") + 3)
    await expect(tab.get_by_text("connection lost")).to_be_hidden()


async def test_pictures_that_are_refused_are_said_over_the_last_one_until_they_come_again(
    tab: Page, shop: Shop
) -> None:
    for name in ("top", "side"):
        await pictures(tab, name, 1)
    await hidden_until_nobody_watches(tab, shop)
    await refuse_pictures(tab, 503, FULL)
    await tab.evaluate(HIDE, False)
    for name in ("top", "side"):
        await expect(tile(tab, name).get_by_text("No picture since")).to_contain_text(FULL)
    before = await shown(tab)
    await tab.unroute("**/api/v1/mjpeg?**")
    await expect(tile(tab, "top").get_by_text("No picture since")).to_be_hidden()
    assert await shown(tab) > before


async def test_a_grid_that_is_refused_from_the_start_says_so(tab: Page) -> None:
    await refuse_pictures(tab, 503, FULL)
    await tab.reload()
    await expect(tile(tab, "top").get_by_text(f"No picture yet. {FULL}")).to_be_visible()


async def test_a_page_for_which_no_stream_is_left_says_so_and_goes_on_when_one_is(
    tab: Page, shop: Shop
) -> None:
    limit, shop.page._seats.limit = shop.page._seats.limit, 0
    await tab.reload()
    await expect(tab.get_by_text("Too many pages are open")).to_be_visible()
    shop.page._seats.limit = limit
    await pictures(tab, "top", 1)
    await expect(tab.get_by_text("Too many pages are open")).to_be_hidden()


async def test_a_network_that_says_nothing_any_more_is_noticed_and_left_for_a_new_connection(
    browser: Browser, shop: Shop
) -> None:
    async with network_to(shop) as (network, url), open_tab(browser, url) as tab:
        await pictures(tab, "top", 3)
        await expect(tile(tab, "top").get_by_text("No picture")).to_be_hidden()
        network.cut()
        await expect(tab.get_by_text("connection lost")).to_be_visible()
        await expect(tab.locator("body")).to_have_attribute("data-lost", "")
        await expect(tile(tab, "top").get_by_text("No picture since")).to_be_visible()
        before = await shown(tab)
        network.open = True  # for new connections; the old ones stay silent
        await expect(tab.get_by_text("connection lost")).to_be_hidden()
        await expect(tile(tab, "top").get_by_text("No picture since")).to_be_hidden()
        assert await shown(tab) > before


async def test_pictures_that_stop_while_the_line_goes_on_are_said_in_both_views(
    tab: Page, shop: Shop
) -> None:
    await tab.add_init_script(AN_HOUR_FAST)
    await tab.reload()
    await pictures(tab, "top", 2)
    before = time.time()
    shop.showing.cancel()  # the line says that new ones come
    await expect(tile(tab, "top").get_by_text("No picture since")).to_be_visible()
    said = await tile(tab, "top").get_by_text("No picture since").inner_text()
    clock = "(s) => new Date(1000 * s).toLocaleTimeString()"
    assert said.split("since ")[1] in [await tab.evaluate(clock, before + s) for s in (-2, -1, 0, 1, 2)]
    shop.showing = asyncio.create_task(shop.keep_showing())
    await expect(tile(tab, "top").get_by_text("No picture since")).to_be_hidden()
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    shop.showing.cancel()
    shop.line.set("top", fps=0.0)
    await expect(tab.get_by_text("Single pictures, because the video stood still.")).to_be_visible()
    await expect(tab.get_by_text("No picture since")).to_be_visible()
    tried: list[str] = []
    tab.on("request", lambda request: tried.append(request.method) if "/whep/" in request.url else None)
    await tab.evaluate(
        SIX_SECONDS_LATER
    )  # it would be time, but video would only show the last picture again
    await tab.evaluate(TWO_LOOKS)
    assert "POST" not in tried
    await expect(tab.get_by_text("No picture since")).to_be_visible()
    shop.line.set("top", fps=5.0)
    shop.showing = asyncio.create_task(shop.keep_showing())
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    await expect(tab.get_by_text("No picture since")).to_be_hidden()


async def test_video_that_is_lost_leaves_no_old_picture_behind(tab: Page, shop: Shop) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    canvas = tab.locator(".screen canvas")
    painted = await canvas.get_attribute("data-pictures")
    await shop.page.stop()
    await expect(tab.get_by_text("Single pictures, because")).to_be_visible()
    await expect(canvas).to_be_visible()
    assert await canvas.get_attribute("data-pictures") == painted
    width, height = await canvas.evaluate("(c) => [c.width, c.height]")
    assert await canvas.evaluate(MEAN_COLOUR, [0, 0, width, height]) == [0, 0, 0]
    await expect(tab.get_by_text("No picture since")).to_contain_text("The server does not answer.")


async def test_video_that_was_lost_plays_again_when_the_line_is_back(tab: Page, shop: Shop) -> None:
    await tab.get_by_role("link", name="top").click()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible()
    await shop.page.stop()
    await expect(tab.get_by_text("Single pictures, because")).to_be_visible()
    shop.page = shop.new_page(shop.page.url.removeprefix("http://").rstrip("/"))
    await shop.page.start()
    await expect(tab.get_by_text("Video by WebRTC.")).to_be_visible(timeout=30_000)
    await expect(tab.locator(".screen video")).to_be_visible()
    await expect(tab.get_by_text("No picture since")).to_be_hidden()


@pytest.mark.parametrize(
    ("fps", "comes", "age", "told", "said"),
    [
        # Ten a second, and then the pictures stay away while the line has newer ones.
        (10.0, [1, 2, 3], [0.1] * 12, 12, [""] * 7 + ["No picture"] * 5),
        # One in five seconds is no trouble, whichever second one asks.
        (0.2, [1, 6, 11, 16], [0.1, 1, 2, 3, 4] * 4, 20, [""] * 20),
        # One for each part, and no part comes: the last one says of when it is.
        (0.0, [1], list(range(20)), 20, [""] * 15 + ["Picture"] * 5),
        # Nothing is told any more either.
        (10.0, [1, 2, 3], [0.1] * 12, 3, [""] * 5 + ["No picture"] * 7),
        # None came at all.
        (10.0, [], [0.1] * 8, 8, [""] * 4 + ["No picture yet"] * 4),
    ],
)
async def test_a_picture_is_missed_when_the_line_has_a_newer_one(
    tab: Page, fps: float, comes: list[int], age: list[float], told: int, said: list[str]
) -> None:
    assert await tab.evaluate(TOLD, [len(said), fps, comes, age, told]) == said


@contextlib.asynccontextmanager
async def logged_in(browser: Browser, shop: Shop) -> AsyncIterator[Page]:
    shop.users_file = shop.folder / "users.yaml"
    users.write(
        shop.users_file, users.with_user(users.UsersFile(), "anna", "viewer", "correct horse battery")
    )
    await shop.page.stop()
    shop.page = shop.new_page("127.0.0.1:0")
    await shop.page.start()
    async with open_tab(browser, shop.page.url) as tab:
        await tab.get_by_label("User").fill("anna")
        await tab.get_by_label("Password").fill("correct horse battery")
        await tab.keyboard.press("Enter")
        await pictures(tab, "top", 1)
        yield tab


@pytest.mark.parametrize("place", ["#/", "#/incidents"])
async def test_whose_session_is_over_meets_the_login_form(browser: Browser, shop: Shop, place: str) -> None:
    async with logged_in(browser, shop) as tab:
        await tab.goto(shop.page.url + "#/teach/top")
        await expect(tab.get_by_role("heading", name="Teach top")).to_be_visible()
        await tab.context.clear_cookies()
        await tab.goto(shop.page.url + place)  # asks for pictures, or for the list of kept ones
        await expect(tab.get_by_label("Password")).to_be_visible()


async def test_whose_session_is_over_before_a_stream_is_free_meets_the_login_form(
    browser: Browser, shop: Shop
) -> None:
    async with logged_in(browser, shop) as tab:
        shop.page._seats.limit = 0
        await tab.reload()
        await expect(tab.get_by_text("Too many pages are open")).to_be_visible()
        await tab.context.clear_cookies()
        await expect(tab.get_by_label("Password")).to_be_visible()


async def test_a_logout_that_did_not_reach_the_server_is_told_in_words(browser: Browser, shop: Shop) -> None:
    async with logged_in(browser, shop) as tab:
        await tab.route("**/api/v1/logout", lambda route: route.abort())
        await tab.get_by_role("button", name="Log out anna").click()
        await tab.get_by_role("button", name="Not logged out: The server does not answer.").click()
        await tab.unroute("**/api/v1/logout")
        await tab.get_by_role("button", name="Not logged out").click()
        await expect(tab.get_by_label("Password")).to_be_visible()


async def test_a_server_that_does_not_answer_a_press_is_told_in_words(tab: Page) -> None:
    held: list[Route] = []
    await tab.route("**/api/v1/models", lambda route: held.append(route))
    await tab.clock.install()
    await tab.goto(tab.url + "#/teach/top")
    await expect(tab.get_by_role("heading", name="Teach top")).to_be_visible()
    await tab.clock.fast_forward(15_000)
    await expect(tab.get_by_text("No answer came within 15 s")).to_be_visible()
    for route in held:
        await route.abort()
