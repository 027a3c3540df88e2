// One tile a camera: its picture with the overlay, and what an operator wants to know at a glance.
import { el, text } from "./dom.js";
import { cameraFacts, stateWords } from "./facts.js";
import { freshLabel } from "./fresh.js";
import { watchPictures, painter } from "./pictures.js";

const GAP_PX = 16, LEAST_PX = 300, WORDS_PX = 130, SHAPE = 3 / 4;

// How many beside each other make all of `count` as large as they can be on one screen, and how wide each is; null
// where they would be too small to see anything: then one scrolls. A wall's screen is looked at from afar.
export function arranged(count, width, height) {
  let best = null;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const fits = ((height + GAP_PX) / rows - GAP_PX - WORDS_PX) / SHAPE;
    const wide = Math.floor(Math.min((width + GAP_PX) / columns - GAP_PX, fits));
    if (wide > (best?.wide ?? LEAST_PX - 1)) best = { columns, wide };
  }
  return best;
}

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

  function arrange() {
    const best = arranged(tiles.size, grid.clientWidth, innerHeight - GAP_PX - grid.getBoundingClientRect().top - scrollY);
    grid.style.gridTemplateColumns = best ? `repeat(${best.columns}, minmax(0, ${best.wide}px))` : "";
  }

  return {
    update(line) {
      const names = line.cameras.map((c) => c.name);
      if (names.join("\n") !== [...tiles.keys()].join("\n")) rebuild(names);
      arrange();
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
