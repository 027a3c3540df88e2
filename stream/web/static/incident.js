// One kept picture, large: what was seen, what the score did around it, and what a person says of it.
import { el } from "./dom.js";
import { ask, loader } from "./api.js";
import { chart } from "./chart.js";
import { answers } from "./gallery.js";

export function incidentView(main, camera, stem) {
  const path = `/api/v1/evidence/${encodeURIComponent(camera)}/${encodeURIComponent(stem)}`;
  const note = el("p", { class: "reason", role: "status" });
  const canvas = el("canvas", { class: "chart", role: "img", "aria-label": "Score around this picture" });
  const room = el("div");
  const scores = el("section", { class: "card", "aria-label": "Score around this picture", hidden: "" }, el("h2", {}, "Score around this picture"), canvas);
  main.replaceChildren(el("div", { class: "stack" }, room, note, scores));
  let closed = false;

  const { load, again } = loader(show, note);

  async function show() {
    const item = await ask(path);
    if (!closed) room.replaceChildren(answers(item, { large: true }).node);
    const curve = await ask(`${path}/scores`).catch(() => null);
    if (closed || !curve) return;
    scores.hidden = false;
    chart(canvas, { mark: curve.seconds / 2 }).update(curve);
    canvas.setAttribute("aria-label", `Score of the ${curve.seconds} seconds around this picture, highest ${Math.max(...curve.highest).toFixed(2)}`);
  }

  load();
  return { update: again, close() { closed = true; } };
}
