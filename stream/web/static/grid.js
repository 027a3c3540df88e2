// One tile a camera: its picture with the overlay, and what an operator wants to know at a glance.
import { el, text } from "./dom.js";
import { cameraFacts, stateWords } from "./facts.js";
import { freshLabel } from "./fresh.js";
import { watchPictures, painter } from "./pictures.js";

export function gridView(main) {
  const grid = el("div", { class: "grid" });
  main.replaceChildren(grid);
  const tiles = new Map();
  let stop = () => {};
  const all = (verb) => { for (const tile of tiles.values()) verb(tile); };
  const timer = setInterval(() => all((tile) => tile.fresh.look()), 500);

  function rebuild(names) {
    stop();
    tiles.clear();
    for (const name of names) tiles.set(name, tile(name));
    grid.replaceChildren(...[...tiles.values()].map((t) => t.node));
    const onTrouble = (words) => all((tile) => tile.fresh.trouble(words));
    stop = names.length ? watchPictures(names, (name, part) => tiles.get(name)?.paint(part), { onTrouble }) : () => {};
  }

  return {
    update(line) {
      const names = line.cameras.map((c) => c.name);
      if (names.join("\n") !== [...tiles.keys()].join("\n")) rebuild(names);
      for (const camera of line.cameras) tiles.get(camera.name).update(camera, line.now);
      if (!names.length) text(grid, "No cameras are configured.");
    },
    close() { stop(); clearInterval(timer); },
  };
}

function tile(name) {
  const canvas = el("canvas", { width: 640, height: 480, role: "img", "aria-label": `Camera ${name}` });
  const fresh = freshLabel();
  const facts = cameraFacts();
  const reason = el("p", { class: "reason" });
  const node = el("article", { class: "tile", "aria-label": `Camera ${name}` },
    el("header", {}, el("h2", {}, el("a", { href: `#/camera/${encodeURIComponent(name)}` }, name)), facts.state,
      el("span", { class: "grow" }), facts.verdict),
    el("div", { class: "screen" }, canvas, fresh.node), facts.list, reason);

  function update(camera, now) {
    const { word, tone } = facts.update(camera);
    fresh.told(camera);
    node.dataset.tone = tone;
    text(reason, stateWords(camera, now));
    canvas.setAttribute("aria-label", `Camera ${name}: ${camera.state}${word ? `, last verdict ${word}` : ""}`);
  }
  return { node, update, fresh, paint: painter(canvas, fresh.shown) };
}
