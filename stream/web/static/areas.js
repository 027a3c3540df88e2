// Where defects count: the area to inspect and the masks, drawn on the picture and put in force by an admin.
import { button, el, replace, text } from "./dom.js";
import { ask, loader, put, remove, cameraPath } from "./api.js";
import { polygonEditor } from "./polygons.js";

const LOOK_MS = 5000;
const HINT = "Defects count inside the area to inspect and outside the masks.";
const DRAW = "Tap the corners on the picture, one after the other; the first one again, or Enter, ends. Escape gives up.";

export function areasCard(name, video) {
  const editor = polygonEditor(video, { onChange: show, onSay: say });
  const hint = el("p", { class: "dim" }, HINT);
  const list = el("div", { class: "shapes", role: "group", "aria-label": "Areas" });
  const whole = el("span", {}, "The whole picture is inspected.");
  const note = el("p", { class: "dim", role: "status" });
  const yaml = el("pre");
  const paste = el("details", {}, el("summary", {}, "As it would stand in the config file"), yaml);
  const edit = button("Edit areas", () => begin(null), { class: "admin", hidden: "" });
  const goOn = button("Go on with what was drawn and not used", () => begin(kept()), { class: "admin", hidden: "" });
  const use = button("Use these areas", save, { class: "main" });
  const discard = button("Discard", () => { leave(); load(); });
  const back = button("Back to the config file's", forget);
  const tools = el("div", { class: "row", hidden: "", role: "toolbar", "aria-label": "Draw areas" },
    button("Draw the area to inspect", () => draw("roi")), button("Draw a mask", () => draw("mask")),
    button("Rectangle", () => editor.rectangle()), button("Delete", () => editor.deleteShape()));
  const ends = el("div", { class: "row", hidden: "" }, use, discard);
  const node = el("section", { class: "card", "aria-label": "Areas" },
    el("header", { class: "row" }, el("h2", {}, "Areas"), el("span", { class: "grow" }), back, goOn, edit),
    hint, tools, list, ends, note, paste);
  // `base`: which areas were on the picture when drawing began, so that another window's are not drawn over. Nothing is
  // edited before they are there: what isn't seen would be drawn over.
  let closed = false, editing = false, base = null, untouched = null, lookedAt = 0;

  async function fill() {
    lookedAt = performance.now();
    try {
      const zones = await ask(cameraPath(name, "zones"));
      if (!editing) shown(zones);
    } catch (error) { node.hidden = base === null; throw error; }
  }
  const { load, again } = loader(fill, note);

  // With each state of the line: another window may have drawn others, and old ones over the picture would lie.
  function update() {
    again();
    if (!editing && performance.now() - lookedAt > LOOK_MS) load();
  }

  function shown(zones) {
    if (closed) return;
    node.hidden = false;
    base = zones.fingerprint;
    editor.load(zones);
    text(yaml, zones.yaml);
    back.hidden = editing || !zones.drawn || document.body.dataset.role !== "admin";
    paste.hidden = !zones.drawn;
    show();
  }

  function begin(draft) {
    editing = true;
    editor.edit(true);
    untouched = draft ? null : drawn();
    if (draft) {
      base = draft.base;
      editor.take(draft);
    }
    text(note, "");
    show();
    node.querySelector("[role=toolbar] button").focus({ preventScroll: true });
    video.screen.scrollIntoView({ block: "start" });
  }

  const drawn = () => JSON.stringify({ ...editor.draft(), base });
  const kept = () => JSON.parse(stored("getItem", name) ?? "null");

  // Who left, or whose page loaded itself anew because the session is over say, is offered what was drawn.
  function keep() {
    if (editing && drawn() !== untouched) stored("setItem", name, drawn());
  }

  function leave() {
    editing = false;
    stored("removeItem", name);
    editor.edit(false);
    text(hint, HINT);
  }

  function draw(kind) {
    text(note, "");
    text(hint, DRAW);
    editor.draw(kind);
  }

  function say(words) {
    text(hint, HINT);
    text(note, words);
  }

  async function save() {
    try {
      const zones = await put(cameraPath(name, "zones"), { ...editor.zones(), base });
      leave();
      shown(zones);
      text(note, "In use from the next picture on, and kept for the next start.");
      edit.focus();
    } catch (error) { text(note, error.message); }
  }

  async function forget() {
    try {
      shown(await remove(cameraPath(name, "zones")));
      text(note, "The config file's areas are in use.");
    } catch (error) { text(note, error.message); }
  }

  // One entry a shape: to choose it, and while editing to name a mask.
  function show() {
    tools.hidden = ends.hidden = !editing;
    edit.hidden = editing;
    goOn.hidden = editing || !kept();
    const entries = editor.shapes().map((shape) => entryOf(shape));
    replace(list, entries.length ? entries : [whole]);
  }

  function entryOf(shape) {
    const words = shape.kind === "roi" ? "area to inspect" : `mask: ${shape.name}`;
    if (!editing) return el("span", { class: "badge" }, words);
    const choose = button(words, () => editor.choose(shape), { "aria-pressed": shape === editor.chosen() });
    if (shape.kind === "roi" || shape !== editor.chosen()) return choose;
    const input = el("input", { value: shape.name, "aria-label": "Name of the mask", maxlength: 64, pattern: "[a-z0-9_][a-z0-9_-]*" });
    input.addEventListener("change", () => { shape.name = input.value; show(); });
    return el("span", { class: "row" }, choose, input);
  }

  addEventListener("pagehide", keep);
  load();
  return {
    node, update,
    close() {
      keep();
      closed = true;
      removeEventListener("pagehide", keep);
      editor.close();
    },
  };
}

// As long as the tab is there. A browser that may keep nothing refuses even the question.
function stored(verb, name, ...value) {
  try { return sessionStorage[verb](`areas of ${name}`, ...value); } catch { return null; }
}
