// One tile a camera: its picture with the overlay, and what an operator wants to know at a glance.
import { el, text, badge, number, ago } from "./dom.js";
import { watchPictures, painter } from "./pictures.js";

export const TONES = { live: "ok", connecting: "warn", frozen: "warn", down: "ng", refused: "ng" };
const VERDICTS = { ok: ["OK", "ok"], ng: ["NG", "ng"], unknown: ["unknown", "warn"] };

export function gridView(main) {
  const grid = el("div", { class: "grid" });
  main.replaceChildren(grid);
  const tiles = new Map();
  let stop = () => {};

  function rebuild(names) {
    stop();
    tiles.clear();
    for (const name of names) tiles.set(name, tile(name));
    grid.replaceChildren(...[...tiles.values()].map((t) => t.node));
    stop = names.length ? watchPictures(names, (name, part) => tiles.get(name)?.paint(part.jpeg)) : () => {};
  }

  return {
    update(line) {
      const names = line.cameras.map((c) => c.name);
      if (names.join("\n") !== [...tiles.keys()].join("\n")) rebuild(names);
      for (const camera of line.cameras) tiles.get(camera.name).update(camera, line.now);
      if (!names.length) text(grid, "No cameras are configured.");
    },
    close: () => stop(),
  };
}

function tile(name) {
  const canvas = el("canvas", { width: 640, height: 480, role: "img", "aria-label": `Camera ${name}` });
  const state = el("span", { class: "badge" });
  const verdict = el("span", { class: "badge" });
  const [score, fps, latency, model] = [0, 0, 0, 0].map(() => el("dd"));
  const reason = el("p", { class: "reason" });
  const facts = el("dl", { class: "facts" });
  for (const [label, value] of [["score", score], ["pictures/s", fps], ["latency", latency], ["model", model]]) {
    facts.append(el("dt", {}, label), value);
  }
  const node = el("article", { class: "tile", "aria-label": `Camera ${name}` },
    el("header", {}, el("h2", {}, el("a", { href: `#/camera/${encodeURIComponent(name)}` }, name)), state, el("span", { class: "grow" }), verdict),
    canvas, facts, reason);

  function update(camera, now) {
    badge(state, camera.state, TONES[camera.state]);
    const live = camera.state === "live";
    const [word, tone] = live && camera.verdict ? VERDICTS[camera.verdict.verdict] : ["", ""];
    badge(verdict, word, tone);
    node.dataset.tone = tone;
    text(score, live && camera.verdict ? `${number(camera.verdict.score_ratio, 2)}×` : "–");
    text(fps, number(live ? camera.fps : null, 1));
    text(latency, live && camera.latency_ms != null ? `${number(camera.latency_ms)} ms` : "–");
    text(model, camera.model ? `${camera.model.name}@${camera.model.version}` : "none");
    text(reason, live ? "" : `${camera.reason} For ${ago(camera.since, now)}.`.trim());
    canvas.setAttribute("aria-label", `Camera ${name}: ${camera.state}${word ? `, last verdict ${word}` : ""}`);
  }
  return { node, update, paint: painter(canvas) };
}
