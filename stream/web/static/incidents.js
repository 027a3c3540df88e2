// The newest incidents beside the pictures. An incident keeps its line from opening to close.
import { el, text, badge, number, clock, ago } from "./dom.js";

const TONE = { minor: "warn", major: "ng", critical: "ng" };

export function incidentList(list, empty) {
  const lines = new Map();
  return {
    update(incidents, now) {
      empty.hidden = incidents.length > 0;
      const wanted = new Set(incidents.map((i) => i.defect_id));
      for (const [id, line] of lines) if (!wanted.has(id)) { line.node.remove(); lines.delete(id); }
      incidents.forEach((incident, place) => {
        let line = lines.get(incident.defect_id);
        if (!line) lines.set(incident.defect_id, (line = incidentLine()));
        if (list.children[place] !== line.node) list.insertBefore(line.node, list.children[place] ?? null);
        line.update(incident, now);
      });
    },
  };
}

function incidentLine() {
  const what = el("a");
  const [severity, when, score] = [0, 0, 0].map(() => el("span"));
  what.className = "what";
  when.className = "when";
  score.className = "when num";
  severity.className = "badge";
  const node = el("li", {}, what, severity, when, score);
  return {
    node,
    update(incident, now) {
      text(what, incident.camera);
      // Its picture's own page where one was kept, else its camera's.
      const kept = incident.image?.match(/^evidence\/([^/]+)\/(.+)\.png$/);
      what.setAttribute("href", kept ? `#/incident/${kept[1]}/${kept[2]}` : `#/camera/${encodeURIComponent(incident.camera)}`);
      badge(severity, incident.severity, TONE[incident.severity]);
      const lasted = incident.closed_at ? `, lasted ${ago(incident.opened_at, incident.closed_at)}` : ", still there";
      text(when, clock(incident.opened_at, now) + lasted);
      text(score, `${number(incident.score_ratio, 1)}×`);
    },
  };
}
