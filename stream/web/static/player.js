// One camera's moving picture, large: video by WebRTC, and pictures over MJPEG where that can't pass.
import { el, text } from "./dom.js";
import { watchPictures, painter } from "./pictures.js";
import { watchVideo } from "./whep.js";

export function player(name) {
  const label = { role: "img", "aria-label": `Camera ${name}` };
  const canvas = el("canvas", { width: 960, height: 720, hidden: "", ...label });
  const video = el("video", { muted: "", playsinline: "", ...label });
  video.muted = true;
  const how = el("p", { class: "how", role: "status" });
  const frame = el("div", { class: "screen" }, video, canvas);
  let overlay = true, paused = false, stop = () => {}, turn = 0;

  // Single pictures are there at once; video takes over when it plays, which takes a second.
  async function start() {
    stop();
    stop = () => {};
    const mine = ++turn;
    if (paused) return;
    pictures("");
    try {
      const end = await watchVideo(name, overlay, video, () => { if (mine === turn) pictures("the connection was lost"); });
      if (mine !== turn) return end();
      stop();
      stop = end;
      show(video, canvas, "Video by WebRTC.");
    } catch (error) {
      if (mine === turn) say(error.message);
    }
  }

  function pictures(reason) {
    const paint = painter(canvas);
    stop();
    stop = watchPictures([name], (_, part) => paint(part.jpeg), overlay);
    show(canvas, video, "");
    say(reason);
  }

  const say = (reason) => text(how, reason ? `Single pictures, because ${reason}.` : "");

  function show(one, other, words) {
    one.hidden = false;
    other.hidden = true;
    text(how, words);
  }

  const toggle = (words, on, change) => {
    const button = el("button", { type: "button", "aria-pressed": on }, words);
    button.addEventListener("click", () => button.setAttribute("aria-pressed", change()));
    return button;
  };
  const marks = toggle("Marks", true, () => { overlay = !overlay; start(); return overlay; });
  const pause = toggle("Pause", false, () => { paused = !paused; start(); return paused; });
  const full = el("button", { type: "button" }, "Full screen");
  full.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen()));
  // Nobody sees a hidden page: let the server rest.
  const onVisibility = () => { if (document.hidden) { turn++; stop(); } else start(); };
  document.addEventListener("visibilitychange", onVisibility);
  start();
  return {
    node: el("div", {}, frame, how),
    buttons: [marks, pause, full],
    update(camera) {
      for (const node of [canvas, video]) node.setAttribute("aria-label", `Camera ${name}: ${camera.state}`);
    },
    close() {
      turn++;
      stop();
      document.removeEventListener("visibilitychange", onVisibility);
    },
  };
}
