// Step 2: learn from the good pictures. The state is the line's, so it is here again after a reload.
import { button, el, span, text } from "./dom.js";
import { post, remove } from "./api.js";

const MIN_GOOD = 10, ENOUGH = 50;

export function trainCard(name, onDone) {
  const advice = el("p", { class: "dim" });
  const go = button("Train", () => tell(() => post("/api/v1/training", { camera: name })), { class: "main" });
  const cancel = button("Cancel", () => tell(() => remove("/api/v1/training")), { hidden: "" });
  const bar = el("progress", { max: 1, hidden: "", "aria-label": "Training" });
  const note = el("p", { role: "status" });
  // A line of its own: the line's state, which comes each second, must not wipe it away.
  const refused = el("p", { class: "warn", role: "alert" });
  const notes = el("ul");
  const more = el("details", { hidden: "" }, el("summary", {}, "What was noticed"), notes);
  const node = el("section", { class: "card step", "aria-label": "Training" },
    el("h2", {}, "2 · Train"), advice, el("div", { class: "row operator" }, go, cancel), bar, note, refused, more);
  let seen = null, enough = false, working = false, listed = "";

  async function tell(job) {
    text(refused, "");
    try { await job(); } catch (error) { text(refused, error.message); }
  }

  function words(state) {
    const mine = state.camera === name ? "" : `Camera ${state.camera}: `;
    const share = state.steps ? Math.floor((100 * state.step) / state.steps) : 0;
    const left = state.left_s == null ? "" : `, about ${span(state.left_s)} left`;
    return mine + {
      preparing: "Getting ready …",
      learning: `Learning: ${share} %${left}`,
      finishing: "Finding the alarm level and writing the report …",
      done: `Version ${state.version} is ready, made from ${state.good_pictures} pictures. Look at its report, then use it.`,
      failed: `It did not work: ${state.reason}`,
      cancelled: `Cancelled. Started again with the same pictures, it goes on from there. ${state.reason}`,
    }[state.phase];
  }

  return {
    node,
    pictures(count) {
      enough = count >= MIN_GOOD;
      go.disabled = working || !enough;
      text(advice, count < MIN_GOOD ? `At least ${MIN_GOOD} good pictures are needed, better ${ENOUGH} or more.`
        : count < ENOUGH ? `It works with ${count} pictures; ${ENOUGH} or more make it surer.`
          : "Takes some minutes. The new version is used when you say so, not before.");
    },
    update(state) {
      working = Boolean(state?.at_work);
      // Another camera's is cancelled on that one's page: here somebody might take it for this one's.
      const mine = working && state.camera === name;
      go.hidden = mine;
      go.disabled = working || !enough;
      cancel.hidden = !mine;
      bar.hidden = !working;
      more.hidden = !state?.notes.length || state.camera !== name;
      // A line that was started anew knows of none.
      text(note, state ? words(state) : "");
      if (!state) return;
      if (state.phase === "learning") { bar.max = state.steps; bar.value = state.step; } else bar.removeAttribute("value");
      const noticed = state.notes.join("\n");
      if (noticed !== listed) notes.replaceChildren(...state.notes.map((n) => el("li", {}, n)));
      listed = noticed;
      if (seen !== null && seen !== state.phase && state.phase === "done") onDone();
      seen = state.phase;
    },
  };
}
