// One kept picture, large: what was seen, what the score did around it, and what a person says of it.
import { el } from "./dom.js";
import { ask, loader } from "./api.js";
import { chart } from "./chart.js";
import { answers } from "./gallery.js";

// `back`: what leads back to the list from which one came, as it was.
export function incidentView(main, camera, stem, back) {
  const path = `/api/v1/evidence/${encodeURIComponent(camera)}/${encodeURIComponent(stem)}`;
  const note = el("p", { class: "reason", role: "status" });
  const canvas = el("canvas", { class: "chart", role: "img", "aria-label": "Score around this picture" });
  const room = el("div");
  const scores = el("section", { class: "card", "aria-label": "Score around this picture", hidden: "" }, el("h2", {}, "Score around this picture"), canvas);
  main.replaceChildren(el("div", { class: "stack" }, room, note, scores));
  let closed = false, card = null, heard = null;

  const { load, again } = loader(show, note);

  async function show() {
    const item = await ask(path);
    if (closed) return;
    if (card) return card.update(item);
    card = answers(item, { large: true, back });
    room.replaceChildren(card.node);
    const curve = await ask(`${path}/scores`).catch(() => null);
    if (closed || !curve) return;
    scores.hidden = false;
    chart(canvas, { mark: curve.seconds / 2 }).update(curve);
    canvas.setAttribute("aria-label", `Score of the ${curve.seconds} seconds around this picture, highest ${Math.max(...curve.highest).toFixed(2)}`);
  }

  load();
  return {
    // In another window it may have been answered, and room have been made of it.
    update(line) {
      const now = `${line.kept} ${line.answered}`;
      if (heard !== null && heard !== now) load(); else again();
      heard = now;
    },
    close() { closed = true; },
  };
}
