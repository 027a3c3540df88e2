// Steps 3 and 4: a version's report, and which version is used.
import { button, el, text, when } from "./dom.js";
import { ask, loader, post } from "./api.js";

const share = (value) => (value == null ? "–" : `${Math.round(100 * value)} %`);

export function versionsCard(name) {
  const choice = el("select", { "aria-label": "Version" });
  const frame = el("iframe", { class: "report", sandbox: "", title: "Report", hidden: "" });
  const alone = el("a", { class: "button", target: "_blank", rel: "noopener", hidden: "" }, "Open alone");
  const none = el("p", { class: "dim" }, "No report yet.");
  const report = el("section", { class: "card step", "aria-label": "Report" },
    el("header", { class: "row" }, el("h2", {}, "3 · Look at the report"), el("span", { class: "grow" }), choice, alone), none, frame);
  const rows = el("tbody");
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...["version", "made", "good pictures", "practice", "test: found", "test: false alarms", ""]
    .map((head) => el("th", { scope: "col" }, head)))), rows);
  const note = el("p", { role: "status" });
  const fixed = el("p", { class: "warn", hidden: "" });
  const back = button("Go back", () => move(`/api/v1/models/${shelf.name}/rollback`, { version: shelf.latest }), { class: "admin", hidden: "" });
  const use = el("section", { class: "card step", "aria-label": "Versions" }, el("h2", {}, "4 · Use it"), fixed,
    el("div", { class: "scroll" }, table), el("div", { class: "row" }, back), note,
    el("p", { class: "dim" }, "Practice: how well it marks made-up defects that it never learnt from. Test: only where it was measured on test pictures."));
  let running = null, closed = false, shelf = null, newest = false, told = "";

  async function list() {
    const found = (await ask("/api/v1/models")).find((s) => s.cameras.includes(name));
    if (closed || !found) return;
    shelf = found;
    show();
  }
  const { load, again } = loader(list, note);

  function show() {
    rows.replaceChildren(...shelf.versions.map(row));
    table.hidden = !shelf.versions.length;
    const pinned = shelf.pinned[name];
    fixed.hidden = pinned == null;
    text(fixed, `The config file holds this camera at version ${pinned}: whatever is chosen here, it stays there.`);
    const words = shelf.versions.length ? shelf.no_latest : "No version yet: collect pictures and train.";
    if (words || note.textContent === told) text(note, words);
    told = words;
    back.hidden = shelf.earlier == null;
    text(back, `Go back to version ${shelf.earlier}`);
    const before = newest ? "" : choice.value;
    newest = false;
    const reports = shelf.versions.filter((v) => v.report);
    choice.replaceChildren(...reports.map((v) => el("option", { value: v.report }, `version ${v.version}`)));
    if (reports.some((v) => v.report === before)) choice.value = before;
    open();
  }

  function open() {
    const url = choice.value ? `/${choice.value}` : "";
    none.hidden = Boolean(url);
    choice.hidden = frame.hidden = alone.hidden = !url;
    if (!url || frame.getAttribute("src") === url) return;
    frame.src = alone.href = url;
    frame.title = `Report of ${choice.selectedOptions[0].text}`;
  }

  function row(v) {
    const mine = v.used_by.includes(name);
    const promote = button(`Use version ${v.version}`, () => move(`/api/v1/models/${shelf.name}/${v.version}/promote`), { class: "admin main" });
    const state = mine ? el("span", { class: "badge", "data-tone": "ok" }, "in use") : v.latest ? el("span", { class: "badge" }, "chosen") : promote;
    if (v.broken) return el("tr", {}, el("th", { scope: "row" }, v.version), el("td", { colspan: 6 }, v.broken));
    return el("tr", {}, el("th", { scope: "row" }, v.version), el("td", {}, when(v.created_at)), el("td", {}, v.good_pictures ?? "–"),
      el("td", {}, share(v.metrics.synthetic_ap)), el("td", {}, share(v.evaluated.recall_at_threshold)), el("td", {}, share(v.evaluated.false_alarm_rate)),
      el("td", {}, state));
  }

  async function move(path, body) {
    try {
      const { latest } = await post(path, body);
      text(note, `Version ${latest} is chosen: it is in use as soon as it is loaded.`);
    } catch (error) { text(note, error.message); }
    load();
  }

  choice.addEventListener("change", open);
  load();
  return {
    nodes: [report, use],
    // The choice of reports goes to the newest.
    ready() { newest = true; return load(); },
    update(model) {
      again();
      const now = model ? `${model.name}@${model.version}` : "";
      if (running !== null && now !== running) load();
      running = now;
    },
    close() { closed = true; },
  };
}
