// Kept pictures of defects, newest first, and what people say of them.
import { JUST_MOVED, button, el, hasMoved, image, text, badge, keepOnly, number, replace } from "./dom.js";
import { ask, loader, put } from "./api.js";

const PAGE = 24, MOST = 200; // so many at a time, and so many the server gives at once
const SAID = { false_alarm: ["false alarm", "warn"], confirmed: ["confirmed", "ok"] };

export function galleryView(main, { camera = null } = {}) {
  const cards = el("div", { class: "cards" });
  const note = el("p", { class: "dim", role: "status" });
  const more = button("Older ones", () => list(true).catch((error) => text(note, error.message)), { hidden: "" });
  const cameras = el("select", { "aria-label": "Camera", hidden: camera != null },
    el("option", { value: "" }, "all cameras"));
  const filter = el("select", { "aria-label": "Answer" },
    ...[["", "all answers"], ["none", "not answered"], ["false_alarm", "false alarms"], ["confirmed", "confirmed"]]
      .map(([value, label]) => el("option", { value }, label)));
  main.replaceChildren(
    el("header", { class: "row" }, el("h2", {}, "Kept pictures"), el("span", { class: "grow" }), cameras, filter),
    cards, note, more);
  const known = new Map();
  // What this place in the browser's history was left with: whoever comes back finds the same list, and his picture.
  const left = history.state?.list ?? { feedback: "", camera: "", shown: PAGE };
  filter.value = left.feedback;
  if (left.camera) cameras.append(el("option", { value: left.camera, selected: "" }, left.camera));
  let { shown, picture } = left;
  let oldest = null, seen = null, heard = null, closed = false, asked = 0;

  function remember(picture) {
    if (closed) return; // it is another place by now
    history.replaceState({ list: { feedback: filter.value, camera: cameras.value, shown: cards.children.length, picture } }, "");
  }

  // A card that is there already stays, with the focus that it may have, and hears what was answered elsewhere.
  function cardOf(item) {
    const card = known.get(keyOf(item)) ?? answers(item, { list: cards, onLook: () => remember(keyOf(item)) });
    known.set(keyOf(item), card);
    card.update(item);
    return card.node;
  }

  async function list(older) {
    const mine = ++asked;
    const limit = older ? PAGE : Math.min(Math.max(shown, PAGE), MOST);
    const query = new URLSearchParams({ limit });
    if (camera ?? cameras.value) query.set("camera", camera ?? cameras.value);
    if (filter.value) query.set("feedback", filter.value);
    if (older && oldest) query.set("before", oldest);
    const items = await ask(`/api/v1/evidence?${query}`);
    if (closed || mine !== asked) return;
    if (!older) keepOnly(known, new Set(items.map(keyOf)));
    const made = items.map(cardOf);
    if (older) cards.append(...made); else replace(cards, made);
    oldest = items.at(-1)?.taken_at ?? oldest;
    more.hidden = items.length < limit;
    text(note, cards.children.length ? "" : "No pictures of defects have been kept.");
    shown = PAGE;
    if (!picture) return;
    known.get(picture)?.link.focus();
    remember((picture = null)); // once: who watches the video above stays there when the page loads itself anew
  }
  const { load, again } = loader(() => list(false), note);

  // What was answered in other windows. Nothing comes, goes or moves for it.
  async function hear(answered) {
    const query = new URLSearchParams({ limit: MOST });
    if (camera ?? cameras.value) query.set("camera", camera ?? cameras.value);
    for (const item of await ask(`/api/v1/evidence?${query}`)) known.get(keyOf(item))?.update(item);
    heard = answered;
  }

  const choose = () => load().then(() => remember());
  cameras.addEventListener("change", choose);
  filter.addEventListener("change", choose);
  load();
  return {
    update(line) {
      for (const { name } of line.cameras) {
        if (![...cameras.options].some((o) => o.value === name)) cameras.append(el("option", { value: name }, name));
      }
      if (heard !== null && heard !== line.answered) hear(line.answered).catch(() => {}); // with the next state, then
      heard ??= line.answered;
      const isNew = line.kept !== seen && seen !== null;
      // New ones come by themselves while the reader is at the top; a list that somebody reads stays put.
      if (isNew && (cards.children.length > PAGE || cards.getBoundingClientRect().top < 0)) return again();
      if (isNew) load(); else again();
      seen = line.kept;
    },
    close() { closed = true; },
  };
}

const keyOf = (item) => `${item.camera}/${item.stem}`;

// A kept picture with its numbers and the buttons to answer it; on a card of the gallery, or large on its own page.
// `update` takes what the server says of it now. `list`: where it stands among others; `back` leads from its own page.
export function answers(item, { large = false, list = null, onLook = null, back = null } = {}) {
  const at = new Date(item.taken_at).toLocaleString();
  const picture = image({ src: `/${item.heatmap}`, loading: "lazy", alt: `Defect on ${item.camera}, ${at}` });
  const own = `#/incident/${encodeURIComponent(item.camera)}/${encodeURIComponent(item.stem)}`;
  const said = el("span", { class: "badge" });
  const note = el("p", { class: "reason", role: "status" });
  const marks = button("Marks", () => {
    const on = marks.getAttribute("aria-pressed") !== "true";
    marks.setAttribute("aria-pressed", on);
    picture.src = `/${on ? item.heatmap : item.image}`;
  }, { "aria-pressed": "true" });
  const buttons = Object.entries({ false_alarm: "False alarm", confirmed: "Confirmed" }).map(([value, label]) =>
    [value, button(label, () => answer(item.feedback === value ? null : value), { class: "operator" })]);

  async function answer(feedback) {
    if (list && hasMoved(list)) return text(note, JUST_MOVED);
    try {
      item = await put(`/api/v1/evidence/${item.camera}/${item.stem}/feedback`, { feedback });
      text(note, feedback === "false_alarm" ? "Filed with the good pictures for the next training." : "");
    } catch (error) { text(note, error.message); }
    show();
  }

  function show() {
    const [word, tone] = SAID[item.feedback] ?? ["", ""];
    badge(said, word, tone);
    for (const [value, node] of buttons) node.setAttribute("aria-pressed", item.feedback === value);
  }
  show();
  const head = large
    ? [el("a", { href: "#/incidents", class: "button", "aria-label": "Back to the kept pictures", onclick: back }, "←"),
      el("h1", {}, el("a", { href: `#/camera/${encodeURIComponent(item.camera)}` }, item.camera))]
    : [el("strong", {}, item.camera)];
  const parts = [
    el("header", {}, ...head, el("span", { class: "when" }, at), el("span", { class: "grow" }), said),
    el("p", { class: "reason" }, `NG: ${number(item.score_ratio, 1)}× the alarm level, model ${item.model}`),
    el("div", { class: "row" }, marks, ...buttons.map(([, node]) => node)), note];
  const link = el("a", { href: own, "aria-label": `Look closer: ${item.camera}, ${at}`, onclick: onLook }, picture);
  const node = el("article", { class: large ? "tile big" : "tile", "aria-label": `Defect on ${item.camera}, ${at}` },
    ...(large ? [parts.shift(), picture] : [link]), ...parts);
  return {
    node, link,
    update(now) {
      if (now.feedback !== item.feedback) text(note, "");
      item = now;
      show();
    },
  };
}
