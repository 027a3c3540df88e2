// The score over time and the alarm level, with what another level would have cost before it is used.
import { button, el, number, text } from "./dom.js";
import { ask, loader, put, cameraPath } from "./api.js";
import { chart } from "./chart.js";

const HOUR = "3600";

export function scoreCard(name) {
  const canvas = el("canvas", { class: "chart", role: "img", "aria-label": "Score over the last minutes" });
  const drawn = chart(canvas);
  const slider = el("input", { type: "range", min: "0.5", max: "2", step: "0.01", value: "1", id: "level" });
  const said = el("output", { for: "level", class: "cost", "aria-live": "polite" });
  const apply = button("Use this alarm level", () => set(Number(slider.value)), { disabled: "" });
  const reset = button("Back to the model's own", () => set(null), { hidden: "" });
  const hand = el("p", { class: "warn", hidden: "" }, "The alarm level was set by hand. It holds until another model is loaded or the program ends.");
  const spans = el("select", { "aria-label": "How much of the past is shown" },
    ...[[120, "2 minutes"], [600, "10 minutes"], [3600, "1 hour"]].map(([s, label]) => el("option", { value: s }, label)));
  const control = el("div", { class: "level admin" },
    el("label", { for: "level" }, "Alarm level"), slider, said, apply, reset);
  const node = el("section", { class: "card", "aria-label": "Score" },
    el("header", { class: "row" }, el("h2", {}, "Score"), el("span", { class: "grow" }), spans), canvas, hand, control);
  // `base` is the alarm level that the slider multiplies: what was drawn when it was last moved.
  let closed = false, asking = false, pricing = false, wanted = null, present = null, base = null;

  async function show() {
    const curve = await ask(cameraPath(name, `scores?seconds=${spans.value}`));
    drawn.update(curve);
    present = curve.threshold;
    control.hidden = !curve.can_set;
    const peak = curve.highest.length ? Math.max(...curve.highest) : 0;
    canvas.setAttribute("aria-label", `Score of the last ${spans.selectedOptions[0].text}, highest ${peak.toFixed(2)}`);
  }
  const { load } = loader(show, said);

  // One at a time: on a slow network they would take all of the browser's connections.
  async function refresh() {
    if (closed || asking) return;
    asking = true;
    await load();
    asking = false;
  }

  function preview() {
    const level = Number(slider.value);
    base = present;
    drawn.level(level);
    apply.disabled = level === 1;
    // What a level would have cost is told of the last hour, so the last hour is what is shown.
    if (spans.value !== HOUR) { spans.value = HOUR; refresh(); }
    wanted = level;
    if (!pricing) price();
  }

  // One at a time too: a finger that drags asks for fifty levels a second.
  async function price() {
    let priced = null, cost = null;
    pricing = true;
    while (wanted !== null && wanted !== priced) {
      priced = wanted;
      cost = await ask(cameraPath(name, `cost?level=${priced}`)).catch(() => null);
    }
    pricing = false;
    if (cost && wanted !== null) tell(cost);
  }

  function tell(cost) {
    const share = cost.pictures ? (100 * cost.above) / cost.pictures : 0;
    text(said, `${number(cost.level, 2)}×: about ${cost.alarms} alarms in the last ${past(cost.hours)}, `
      + `${share.toFixed(1)} % of ${cost.pictures} pictures above it`);
  }

  async function set(level) {
    try {
      await put(cameraPath(name, "threshold"), level === null ? { level } : { level, base });
      wanted = null;
      slider.value = "1";
      drawn.level(1);
      apply.disabled = true;
      text(said, "The new alarm level is in use.");
    } catch (error) { text(said, error.message); }
  }

  slider.addEventListener("input", preview);
  spans.addEventListener("change", refresh);
  const timer = setInterval(() => { if (!document.hidden) refresh(); }, 1000);
  refresh();
  // The level that one finds may be another shift's.
  const update = (camera) => { hand.hidden = reset.hidden = !camera.model?.by_hand; };
  return { node, update, close() { closed = true; wanted = null; clearInterval(timer); } };
}

const past = (hours) => (hours >= 0.95 ? "hour" : `${Math.max(1, Math.round(hours * 60))} min`);
