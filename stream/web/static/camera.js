// One camera's own page: the large picture with its areas, the score over time, the alarm level, its kept pictures.
import { el, text } from "./dom.js";
import { areasCard } from "./areas.js";
import { cameraFacts, GONE, stateWords } from "./facts.js";
import { galleryView } from "./gallery.js";
import { player } from "./player.js";
import { scoreCard } from "./score.js";

export function cameraView(main, name) {
  const facts = cameraFacts();
  const reason = el("p", { class: "reason" });
  const video = player(name);
  const areas = areasCard(name, video);
  const score = scoreCard(name);
  const kept = el("section", { class: "card", "aria-label": "Kept pictures" });
  const card = el("section", { class: "tile big", "aria-label": `Camera ${name}` },
    el("header", {}, el("a", { href: "#/", class: "button", "aria-label": "Back to all cameras" }, "←"),
      el("h1", {}, name), facts.state, facts.verdict, el("span", { class: "grow" }), ...video.buttons,
      el("a", { href: `#/teach/${encodeURIComponent(name)}`, class: "button operator" }, "Teach")),
    video.node, facts.list, reason);
  main.replaceChildren(el("div", { class: "stack" }, card, areas.node, score.node, kept));
  const gallery = galleryView(kept, { camera: name });
  return {
    update(line) {
      const camera = line.cameras.find((c) => c.name === name);
      areas.update();
      card.dataset.tone = facts.update(camera ?? GONE).tone;
      if (!camera) return text(reason, "There is no camera of this name.");
      text(reason, stateWords(camera, line.now));
      video.update(camera);
      score.update(camera);
      gallery.update(line);
    },
    close() { video.close(); areas.close(); score.close(); gallery.close(); },
  };
}
