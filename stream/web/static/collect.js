// Step 1: good pictures of what the camera shows, with a counter; and a look at those that there are.
import { JUST_MOVED, button, el, hasMoved, image, keepOnly, number, replace, text } from "./dom.js";
import { ask, loader, post, remove, cameraPath } from "./api.js";

const SKIPPED = { duplicate: "nearly the same as another", blurred: "blurred", dark: "too dark", overexposed: "too bright", alarm: "a defect was seen" };
const SHOWN = 12;

export function collectCard(name, onCount) {
  const count = el("p", { class: "count" });
  const frames = el("input", { type: "number", min: 1, max: 5000, value: 100, id: "frames" });
  const alarms = el("input", { type: "checkbox", id: "alarms" });
  const go = button("Collect", start, { class: "main" });
  const stop = button("Stop", () => tell(() => remove(cameraPath(name, "pictures"))), { hidden: "" });
  const bar = el("progress", { max: 100, value: 0, hidden: "", "aria-label": "Pictures collected" });
  const note = el("p", { class: "dim", role: "status" });
  const refused = el("p", { class: "warn", role: "alert" });
  const strip = el("div", { class: "strip" });
  const node = el("section", { class: "card step", "aria-label": "Good pictures" },
    el("h2", {}, "1 · Good pictures"),
    el("p", { class: "dim" }, "Run good parts only while pictures are collected: what the camera sees now is what it will take for good."),
    count,
    el("div", { class: "row operator" }, el("label", { for: "frames" }, "Pictures"), frames, go, stop,
      el("label", { class: "check" }, alarms, "also those in which a defect is seen now (I looked: the parts are good)")),
    bar, note, refused, strip);
  const cards = new Map();
  let seen = null, told = "", closed = false;

  async function tell(job) {
    text(refused, "");
    try { await job(); } catch (error) { text(refused, error.message); }
  }

  function start() {
    return tell(() => post(cameraPath(name, "pictures"), { frames: Number(frames.value), with_alarms: alarms.checked }));
  }

  function show(found) {
    if (closed) return;
    text(count, found.count ? `${found.count} good pictures, ${number(found.megabytes, 1)} MB` : "No good pictures yet.");
    keepOnly(cards, new Set(found.newest.map((picture) => picture.small)));
    replace(strip, found.newest.map(card));
    onCount(found.count);
  }
  const { load, again } = loader(async () => show(await ask(cameraPath(name, `pictures?limit=${SHOWN}`))), note);

  function drop(picture) {
    if (hasMoved(strip)) return text(refused, JUST_MOVED);
    return tell(async () => show(await remove(`/${picture.small}`)));
  }

  function card(picture) {
    if (!cards.has(picture.small)) {
      const said = `Good picture of ${new Date(picture.at).toLocaleString()}`;
      const bad = button("Not good", () => drop(picture), { class: "operator", "aria-label": `Remove: ${said}` });
      cards.set(picture.small, el("figure", {}, image({ src: `/${picture.small}`, alt: said, loading: "lazy" }), bad));
    }
    return cards.get(picture.small);
  }

  load();
  return {
    node,
    update(state) {
      again();
      const working = Boolean(state?.at_work);
      go.hidden = working;
      stop.hidden = bar.hidden = !working;
      frames.disabled = alarms.disabled = working;
      if (!state && note.textContent === told) text(note, ""); // a line that was started anew knows of none
      if (!state) return;
      bar.max = state.wanted;
      bar.value = state.written;
      const skipped = Object.entries(state.skipped).map(([why, times]) => `${times} ${SKIPPED[why] ?? why}`).join(", ");
      told = `${state.written} of ${state.wanted} collected${skipped ? `; left out: ${skipped}` : ""}. ${state.reason}`;
      text(note, told);
      const now = `${state.written} ${working}`;
      if (now !== seen && (!working || state.written % 5 === 0)) load();
      seen = now;
    },
    close() { closed = true; },
  };
}
