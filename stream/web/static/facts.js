// What an operator wants to know of a camera at a glance; on its tile and on its own page.
import { ago, el, text, badge, number } from "./dom.js";

export const TONES = { live: "ok", connecting: "warn", frozen: "warn", down: "ng", refused: "ng", removed: "ng" };
// What is told of a camera that the config file names no more.
export const GONE = { state: "removed", verdict: null, model: null };
const VERDICTS = { ok: ["OK", "ok"], ng: ["NG", "ng"], unknown: ["unknown", "warn"] };

export function cameraFacts() {
  const state = el("span", { class: "badge now" });
  const verdict = el("span", { class: "badge now" });
  const [score, fps, latency, model] = [0, 0, 0, 0].map(() => el("dd"));
  const list = el("dl", { class: "facts" });
  for (const [label, value] of [["score", score], ["pictures/s", fps], ["latency", latency], ["model", model]]) {
    list.append(el("dt", {}, label), value);
  }
  return {
    state, verdict, list,
    // The last verdict's word and tone; nothing of a camera that isn't live.
    update(camera) {
      badge(state, camera.state, TONES[camera.state]);
      const live = camera.state === "live";
      const [word, tone] = live && camera.verdict ? VERDICTS[camera.verdict.verdict] : ["", ""];
      badge(verdict, word, tone);
      text(score, live && camera.verdict ? `${number(camera.verdict.score_ratio, 2)}×` : "–");
      text(fps, number(live ? camera.fps : null, 1));
      text(latency, live && camera.latency_ms != null ? `${number(camera.latency_ms)} ms` : "–");
      text(model, camera.model ? `${camera.model.name}@${camera.model.version}` : "none");
      return { word, tone };
    },
  };
}

// Why a camera shows or inspects nothing; "" when all is well.
export function stateWords(camera, now) {
  if (camera.state !== "live") return `${camera.reason} For ${ago(camera.since, now)}.`.trim();
  return camera.model ? "" : `Not inspected: ${camera.not_inspected || "no model yet"}`.replace(/[.]?$/, ".");
}
