// Polygons on a picture: corners are tapped, dragged, or moved by the arrow keys. Points are 0–1 of the picture.
import { svg } from "./dom.js";

const WIDTH = 1000;
const STEP = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const clamp = (value) => Math.min(1, Math.max(0, value));
const round = (value) => Math.round(value * 10000) / 10000;

export function polygonEditor(video, { onChange, onSay }) {
  const layer = svg("svg", { class: "zones", preserveAspectRatio: "xMidYMid meet" });
  video.screen.append(layer);
  let shapes = [], chosen = null, editing = false, drawing = null, height = 750;

  // The picture's own shape may come late, or be another one after a reconnect.
  const timer = setInterval(() => {
    const now = Math.round(WIDTH * video.aspect());
    if (now > 0 && now !== height) { height = now; render(); }
  }, 500);

  const x = (share) => share * WIDTH;
  const y = (share) => share * height;
  const path = (points) => points.map(([px, py]) => `${x(px)},${y(py)}`).join(" ");

  function render(focus = null) {
    layer.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
    layer.classList.toggle("editing", editing);
    const parts = [outside(), ...shapes.map(outline)];
    if (editing && chosen && !drawing) parts.push(...middles(chosen), ...chosen.points.map((_, i) => corner(chosen, i)));
    if (drawing) parts.push(...unfinished());
    layer.replaceChildren(...parts.filter(Boolean));
    if (focus != null) layer.querySelector(`[data-corner="${focus}"]`)?.focus();
  }

  // What lies outside the area to inspect is dimmed.
  function outside() {
    const roi = shapes.find((s) => s.kind === "roi");
    const edge = `M0 0H${WIDTH}V${height}H0Z`;
    return roi && svg("path", { class: "outside", d: `${edge}M${path(roi.points)}Z`, "fill-rule": "evenodd" });
  }

  function outline(shape) {
    const node = svg("polygon", { class: `shape ${shape.kind}${shape === chosen && editing ? " chosen" : ""}`, points: path(shape.points) });
    if (editing && !drawing) node.addEventListener("pointerdown", (event) => grab(event, shape, shape.points.map((_, i) => i)));
    return node;
  }

  function corner(shape, i) {
    const [px, py] = shape.points[i];
    const said = shape.kind === "roi" ? "the area to inspect" : `mask ${shape.name}`;
    const node = svg("circle", { class: "corner", cx: x(px), cy: y(py), r: radius(), tabindex: 0, role: "button", "data-corner": i,
      "aria-label": `Corner ${i + 1} of ${shape.points.length} of ${said}, ${percent(px)} across, ${percent(py)} down. Arrow keys move it, Delete removes it.` });
    node.addEventListener("pointerdown", (event) => grab(event, shape, [i]));
    node.addEventListener("keydown", (event) => {
      const step = STEP[event.key], size = event.shiftKey ? 0.05 : 0.005;
      if (step) shape.points[i] = [clamp(px + step[0] * size), clamp(py + step[1] * size)];
      else if (event.key === "Delete" || event.key === "Backspace") dropCorner(shape, i);
      else return;
      event.preventDefault();
      render(Math.min(i, shape.points.length - 1));
    });
    return node;
  }

  function dropCorner(shape, i) {
    if (shape.points.length > 3) shape.points.splice(i, 1);
    else onSay("An area has three corners at least; Delete in the toolbar removes it.");
  }

  // A dot in the middle of each side makes a corner of it.
  function middles(shape) {
    return shape.points.map((from, i) => {
      const to = shape.points[(i + 1) % shape.points.length];
      const point = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
      const node = svg("circle", { class: "middle", cx: x(point[0]), cy: y(point[1]), r: radius() * 0.6, tabindex: 0, role: "button",
        "aria-label": `Add a corner between ${i + 1} and ${(i + 1) % shape.points.length + 1}` });
      const add = () => { shape.points.splice(i + 1, 0, point); render(i + 1); };
      node.addEventListener("pointerdown", (event) => { shape.points.splice(i + 1, 0, point); grab(event, shape, [i + 1]); });
      node.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); add(); } });
      return node;
    });
  }

  function unfinished() {
    return [svg("polyline", { class: `shape ${drawing.kind} drawing`, points: path(drawing.points) }),
      ...drawing.points.map(([px, py]) => svg("circle", { class: "corner", cx: x(px), cy: y(py), r: radius() }))];
  }

  // Handles keep their size on the screen, whatever the picture's.
  function radius() {
    return 9 / (layer.getScreenCTM()?.a || 1);
  }

  function at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(layer.getScreenCTM().inverse());
    return [clamp(point.x / WIDTH), clamp(point.y / height)];
  }

  function grab(event, shape, corners) {
    event.preventDefault();
    event.stopPropagation();
    choose(shape, corners.length === 1 ? corners[0] : null);
    const start = at(event), before = shape.points.map((p) => [...p]);
    layer.setPointerCapture(event.pointerId);
    const move = (e) => {
      const now = at(e);
      for (const i of corners) shape.points[i] = [clamp(before[i][0] + now[0] - start[0]), clamp(before[i][1] + now[1] - start[1])];
      render(corners.length === 1 ? corners[0] : null);
    };
    const end = () => { layer.removeEventListener("pointermove", move); onChange(); };
    layer.addEventListener("pointermove", move);
    layer.addEventListener("pointerup", end, { once: true });
    layer.addEventListener("pointercancel", end, { once: true });
  }

  layer.addEventListener("pointerdown", (event) => {
    if (!drawing) return;
    event.preventDefault();
    const point = at(event), first = drawing.points[0];
    const near = first && Math.hypot(x(point[0] - first[0]), y(point[1] - first[1])) < 2 * radius();
    if (near && drawing.points.length >= 3) return close();
    drawing.points.push(point);
    render();
  });

  function onKey(event) {
    if (!drawing) return;
    if (event.key === "Enter" && drawing.points.length >= 3) { event.preventDefault(); close(); }
    if (event.key === "Escape") { drawing = null; render(); onSay(""); }
    if (event.key === "Backspace") { drawing.points.pop(); render(); }
  }
  document.addEventListener("keydown", onKey);

  function close() {
    const shape = drawing;
    drawing = null;
    if (shape.kind === "roi") shapes = shapes.filter((s) => s.kind !== "roi");
    shapes.push(shape);
    onSay("");
    choose(shape);
  }

  function freeName() {
    for (let i = 1; ; i++) if (!shapes.some((s) => s.name === `mask${i}`)) return `mask${i}`;
  }

  function choose(shape, focus = null) {
    chosen = shape;
    render(focus);
    onChange();
  }

  function draw(kind, points = []) {
    drawing = { kind, name: kind === "roi" ? "" : freeName(), points };
    chosen = null;
    render();
  }

  return {
    load(zones) {
      shapes = zones.roi ? [{ kind: "roi", name: "", points: zones.roi }] : [];
      for (const [name, points] of Object.entries(zones.masks)) shapes.push({ kind: "mask", name, points });
      drawing = chosen = null;
      render();
    },
    zones() {
      if (drawing?.points.length) throw new Error("An area is not finished: tap its first corner to end it, or Delete to give it up.");
      const rounded = (points) => points.map((p) => p.map(round));
      const roi = shapes.find((s) => s.kind === "roi");
      const masks = shapes.filter((s) => s.kind === "mask").map((s) => [s.name, { polygon: rounded(s.points) }]);
      if (new Set(masks.map(([name]) => name)).size < masks.length) throw new Error("Two masks have the same name.");
      return { roi: roi ? rounded(roi.points) : null, masks: Object.fromEntries(masks) };
    },
    // What is drawn, with what is not finished, as plain values.
    draft: () => ({ shapes, drawing }),
    take(draft) { ({ shapes, drawing } = draft); choose(drawing ? null : shapes[0] ?? null); },
    edit(on) { editing = on; drawing = null; chosen = on ? shapes[0] ?? null : null; render(); },
    draw,
    // Something to begin with, for whoever has no pointer.
    rectangle() {
      const kind = drawing?.kind ?? "mask";
      draw(kind, [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]]);
      close();
      layer.querySelector("[data-corner='0']")?.focus();
    },
    deleteShape() {
      if (drawing) { drawing = null; onSay(""); } else shapes = shapes.filter((s) => s !== chosen);
      choose(shapes[0] ?? null);
    },
    choose,
    shapes: () => shapes,
    chosen: () => chosen,
    close() { clearInterval(timer); document.removeEventListener("keydown", onKey); layer.remove(); },
  };
}

const percent = (share) => `${Math.round(100 * share)} %`;
