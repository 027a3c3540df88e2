// Teach one camera: collect good pictures, train, look at the report, use the new version or go back.
import { el, text } from "./dom.js";
import { collectCard } from "./collect.js";
import { trainCard } from "./train.js";
import { versionsCard } from "./versions.js";

export function teachView(main, name) {
  const head = el("header", { class: "row" },
    el("a", { href: `#/camera/${encodeURIComponent(name)}`, class: "button", "aria-label": `Back to camera ${name}` }, "←"),
    el("h1", {}, `Teach ${name}`), el("span", { class: "dim" }, "The line goes on inspecting meanwhile."));
  const gone = el("p", { class: "reason", role: "status" });
  const versions = versionsCard(name);
  const train = trainCard(name, () => versions.ready());
  const collect = collectCard(name, (count) => train.pictures(count));
  main.replaceChildren(el("div", { class: "stack teach" }, head, gone, collect.node, train.node, ...versions.nodes));
  return {
    update(line) {
      const camera = line.cameras.find((c) => c.name === name);
      text(gone, !camera ? "There is no camera of this name."
        : camera.state === "live" ? "" : `The camera is ${camera.state}: ${camera.reason}`);
      collect.update(line.collecting.find((c) => c.camera === name) ?? null);
      train.update(line.training);
      versions.update(camera?.model);
    },
    close() { collect.close(); versions.close(); },
  };
}
