// One camera's moving picture, large: over one MJPEG stream, with pause, full screen and the plain picture.
import { el } from "./dom.js";
import { watchPictures, painter } from "./pictures.js";

export function player(name) {
  const canvas = el("canvas", { width: 960, height: 720, role: "img", "aria-label": `Camera ${name}` });
  const frame = el("div", { class: "screen" }, canvas);
  let overlay = true, paused = false, stop = () => {};

  function start() {
    stop();
    const paint = painter(canvas);
    stop = paused ? () => {} : watchPictures([name], (_, part) => paint(part.jpeg), overlay);
  }
  const toggle = (label, on, change) => {
    const button = el("button", { type: "button", "aria-pressed": on }, label);
    button.addEventListener("click", () => button.setAttribute("aria-pressed", change()));
    return button;
  };
  const marks = toggle("Marks", true, () => { overlay = !overlay; start(); return overlay; });
  const pause = toggle("Pause", false, () => { paused = !paused; start(); return paused; });
  const full = el("button", { type: "button" }, "Full screen");
  full.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen()));
  start();
  return {
    node: frame,
    buttons: [marks, pause, full],
    update(camera) { canvas.setAttribute("aria-label", `Camera ${name}: ${camera.state}`); },
    close: () => stop(),
  };
}
