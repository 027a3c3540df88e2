// One camera's moving picture, large: video by WebRTC, and pictures over MJPEG where that can't pass.
import { button, el, text } from "./dom.js";
import { watchPictures, painter } from "./pictures.js";
import { watchVideo } from "./whep.js";

export function player(name) {
  const label = { role: "img", "aria-label": `Camera ${name}` };
  const canvas = el("canvas", { width: 960, height: 720, hidden: "", ...label });
  const video = el("video", { muted: "", playsinline: "", ...label });
  video.muted = true;
  const how = el("p", { class: "how", role: "status" });
  const held = el("p", { class: "held", role: "status", hidden: "" });
  const screen = el("div", { class: "screen" }, video, canvas, held);
  let overlay = true, paused = false, stop = () => {}, turn = 0;

  // Single pictures are there at once; video takes over when it plays, which takes a second.
  async function start() {
    const mine = ++turn;
    hold();
    stop();
    stop = () => {};
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

  // A picture that stands still must not be taken for the line: it says since when it does.
  function hold() {
    held.hidden = !paused;
    if (!paused) return;
    text(held, `Paused at ${new Date().toLocaleTimeString()}`);
    if (video.hidden || !video.videoWidth) return;
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    show(canvas, video, "");
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
    const made = button(words, () => made.setAttribute("aria-pressed", change()), { "aria-pressed": on });
    return made;
  };
  const marks = toggle("Marks", true, () => { overlay = !overlay; start(); return overlay; });
  const pause = toggle("Pause", false, () => { paused = !paused; start(); return paused; });
  const full = button("Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : screen.requestFullscreen()));
  // Nobody sees a hidden page: let the server rest.
  const onVisibility = () => { if (document.hidden) { turn++; stop(); } else if (!paused) start(); };
  document.addEventListener("visibilitychange", onVisibility);
  start();
  return {
    node: el("div", {}, screen, how),
    buttons: [marks, pause, full],
    screen,
    // Height over width of what is shown now.
    aspect: () => (video.hidden ? canvas.height / canvas.width : video.videoHeight / video.videoWidth),
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
