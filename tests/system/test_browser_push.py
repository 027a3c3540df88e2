"""A browser pushes its video to us by WHIP: Debian's Chromium, headless."""

import shutil

import pytest
from playwright.async_api import async_playwright
from pydantic import SecretStr

from config.sources import WebrtcSource
from engine.core import Frame
from stream.camera import Camera, CameraPolicy
from stream.sources.base import build
from stream.sources.desk import DESK
from stream.web import whip
from stream.web.page import LivePage
from tests.browsing import FLAGS
from tests.puppets import until
from tests.webline import FakeLine

TOKEN = "t0ken-that-nobody-may-see"

# A red canvas that changes all the time, 320 × 240; resolves to the HTTP status; with 201 it goes on pushing.
PUSH = """async ([path, token]) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 240];
  const paint = canvas.getContext("2d");
  let n = 0;
  setInterval(() => {
    paint.fillStyle = "rgb(220, 20, 20)"; paint.fillRect(0, 0, 320, 240);
    paint.fillStyle = "white"; paint.fillRect(n++ * 7 % 300, 100, 20, 20);
  }, 40);
  const peer = new RTCPeerConnection();
  const sound = new AudioContext().createMediaStreamDestination().stream;  // declined, though it is first
  for (const track of sound.getTracks()) peer.addTrack(track);
  for (const track of canvas.captureStream(25).getTracks()) peer.addTrack(track);
  await peer.setLocalDescription(await peer.createOffer());
  const gathered = () => peer.iceGatheringState === "complete";
  const change = (done) => peer.addEventListener("icegatheringstatechange", done, {once: true});
  while (!gathered()) await new Promise(change);
  const headers = {"content-type": "application/sdp", authorization: "Bearer " + token};
  const reply = await fetch(path, {method: "POST", headers, body: peer.localDescription.sdp});
  if (reply.status === 201) await peer.setRemoteDescription({type: "answer", sdp: await reply.text()});
  window.session = reply.headers.get("location");
  window.directions = peer.getTransceivers().map((each) => each.currentDirection);
  return reply.status;
}"""


@pytest.mark.debian
async def test_a_browser_pushes_its_pictures_with_the_right_token_and_says_goodbye() -> None:
    frames: list[Frame] = []
    settings = WebrtcSource(type="webrtc", mode="whip", token=SecretStr(TOKEN))
    policy = CameraPolicy(fps=10, grace_s=5.0)
    camera = Camera("top", lambda: build("top", settings), offer=frames.append, policy=policy)
    page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", routers=(whip.build(DESK),))
    await page.start()
    await camera.start()
    try:
        await until(lambda: "waiting" in camera.state.reason)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            tab = await browser.new_page()
            await tab.goto(page.url)
            assert await tab.evaluate(PUSH, ["/whip/top", "wr0ng"]) == 401
            assert await tab.evaluate(PUSH, ["/whip/top", TOKEN]) == 201
            await until(lambda: len(frames) > 10, within_s=30)
            assert await tab.evaluate("() => window.directions") == ["inactive", "sendonly"]
            red, green, blue = frames[-1].pixels[:60].reshape(-1, 3).mean(axis=0)
            assert red > 150 and green < 90 and blue < 90
            assert frames[-1].pixels.shape[1] / frames[-1].pixels.shape[0] == pytest.approx(4 / 3, abs=0.02)
            await tab.evaluate("() => fetch(window.session, {method: 'DELETE'})")
            await until(lambda: camera.stats().reconnects == {"ended": 1}, within_s=10)
            await browser.close()
    finally:
        await camera.stop()
        await page.stop()
