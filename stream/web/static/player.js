// One camera's moving picture, large: video by WebRTC, and pictures over MJPEG where that can't pass.
import { button, el, lineTime, text } from "./dom.js";
import { freshLabel } from "./fresh.js";
import { watchPictures, painter } from "./pictures.js";
import { watchVideo } from "./whep.js";

// Video that was lost is tried again once pictures come, seldom if it never plays for long.
const AGAIN_MS = 5000, SELDOM_MS = 60000;

export function player(name) {
  const label = { role: "img", "aria-label": `Camera ${name}` };
  const canvas = el("canvas", { width: 960, height: 720, hidden: "", ...label });
  const video = el("video", { muted: "", playsinline: "", ...label });
  video.muted = true;
  const how = el("p", { class: "how", role: "status" });
  const held = el("p", { class: "held", role: "status", hidden: "" });
  const fresh = freshLabel();
  const screen = el("div", { class: "screen" }, video, canvas, held, fresh.node);
  let overlay = true, paused = false, stop = () => {}, turn = 0, frames = 0, fps = null;
  let playedAt = null, again = Infinity, wait = AGAIN_MS;

  // Single pictures are there at once; video takes over when it plays, which takes a second.
  async function start() {
    const mine = ++turn;
    hold();
    stop();
    stop = () => {};
    if (paused) return;
    pictures("");
    await play(mine);
  }

  async function play(mine) {
    again = Infinity;
    try {
      const end = await watchVideo(name, overlay, video, () => { if (mine === turn) fallBack("the connection was lost"); });
      if (mine !== turn) return end();
      stop();
      stop = end;
      playedAt = performance.now();
      show(video, canvas, "Video by WebRTC.");
    } catch (error) {
      if (mine !== turn) return;
      say(error.message);
      if (playedAt !== null) later(); // where it never played, it can't pass
    }
  }

  // A picture that stands still must not be taken for the line: it says since when it does.
  function hold() {
    const isHeld = !held.hidden;
    held.hidden = !paused;
    if (!paused || isHeld) return;
    text(held, `Paused at ${new Date(lineTime()).toLocaleTimeString()}`);
    if (video.hidden || !video.videoWidth) return;
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    show(canvas, video, "");
  }

  function pictures(reason) {
    const paint = painter(canvas, fresh.shown);
    stop();
    stop = watchPictures([name], (_, part) => paint(part), { overlay, onTrouble: fresh.trouble });
    // Empties it: what was painted on it last may be hours old.
    canvas.width = canvas.width;
    show(canvas, video, "");
    say(reason);
  }

  function fallBack(reason) {
    turn++;
    pictures(reason);
    if (performance.now() - playedAt > SELDOM_MS) wait = AGAIN_MS;
    later();
  }

  function later() {
    again = performance.now() + wait;
    wait = Math.min(2 * wait, SELDOM_MS);
  }

  // Not every browser calls back for each picture of a video, but all count them. One that misses pictures for some
  // seconds wishes for one, and is sent the last again: while the line inspects none, what comes is that.
  function look() {
    const shown = video.hidden || fps === 0 ? frames : video.getVideoPlaybackQuality().totalVideoFrames;
    if (shown !== frames) fresh.shown(`video ${(frames = shown)}`);
    const isLate = fresh.look(paused);
    if (paused || document.hidden) return;
    if (isLate && !video.hidden) fallBack("the video stood still");
    if (!isLate && performance.now() > again) play(turn);
  }

  const say = (reason) => text(how, reason ? `Single pictures, because ${reason}.` : "");

  function show(one, other, words) {
    one.hidden = false;
    other.hidden = true;
    text(how, words);
  }

  const toggle = (words, on, change) => {
    const made = button(words, () => made.setAttribute("aria-pressed", change()), { "aria-pressed": on });
    return made;
  };
  const marks = toggle("Marks", true, () => { overlay = !overlay; start(); return overlay; });
  const pause = toggle("Pause", false, () => { paused = !paused; start(); return paused; });
  // A phone may fill its screen with videos only.
  const full = button("Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : screen.requestFullscreen()),
    { hidden: !screen.requestFullscreen });
  // Nobody sees a hidden page: let the server rest.
  const onVisibility = () => { if (document.hidden) { turn++; stop(); } else if (!paused) start(); };
  document.addEventListener("visibilitychange", onVisibility);
  const timer = setInterval(look, 500);
  start();
  return {
    node: el("div", {}, screen, how),
    buttons: [marks, pause, full],
    screen,
    // Height over width of what is shown now.
    aspect: () => (video.hidden ? canvas.height / canvas.width : video.videoHeight / video.videoWidth),
    update(camera) {
      fresh.told(camera);
      fps = camera.fps;
      for (const node of [canvas, video]) node.setAttribute("aria-label", `Camera ${name}: ${camera.state}`);
    },
    close() {
      turn++;
      stop();
      clearInterval(timer);
      document.removeEventListener("visibilitychange", onVisibility);
    },
  };
}
