// The score over time against the alarm level, on a canvas. Above 1.0 is an alarm; the axis ends where the scale does.
import { span } from "./dom.js";

const TOP = 2.0;
const LINES = [0, 0.5, 1, 1.5, 2];

// `mark`: so many seconds before the end something happened; then the past ends there and not now.
export function chart(canvas, { mark = null } = {}) {
  let curve = null, level = 1.0;

  function draw() {
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const y = (value) => height - 18 - (height - 26) * Math.min(Math.max(value / TOP, 0), 1);
    for (const value of LINES) line(g, width, y(value), colour("--edge"), []);
    if (curve) bars(g, width, y, colour);
    words(g, width, y, colour);
    line(g, width, y(level), colour("--warn"), level === 1.0 ? [] : [6, 4]);
    if (mark != null && curve) {
      const x = width * (1 - mark / curve.seconds);
      stroke(g, [x, y(TOP)], [x, y(0)], colour("--ink"), [2, 3]);
    }
  }

  // Over the bars, on a patch of paper, so that they can be read in front of red ones too.
  function words(g, width, y, colour) {
    g.font = "12px system-ui, sans-serif";
    for (const value of LINES.filter((v) => v < TOP)) {
      const said = value === 1 ? "alarm" : `${value}×`;
      g.fillStyle = colour("--card");
      g.fillRect(2, y(value) - 15, g.measureText(said).width + 4, 14);
      g.fillStyle = colour("--dim");
      g.fillText(said, 4, y(value) - 4);
    }
    if (curve) {
      g.fillText(mark == null ? `${span(curve.seconds)} ago` : `${span(curve.seconds - mark)} before`, 4, y(0) + 14);
      g.textAlign = "right";
      g.fillText(mark == null ? "now" : `${span(mark)} after`, width - 4, y(0) + 14);
      g.textAlign = "left";
    }
  }

  function bars(g, width, y, colour) {
    const start = Date.parse(curve.now) / 1000 - curve.seconds;
    const step = (width * curve.bucket_s) / curve.seconds;
    curve.at.forEach((at, i) => {
      const value = curve.highest[i];
      g.fillStyle = value >= level ? colour("--ng") : colour("--accent");
      const x = ((at - start) / curve.seconds) * width;
      g.fillRect(x, y(value), Math.max(1.5, step - 0.5), Math.max(1.5, y(0) - y(value)));
    });
  }

  const line = (g, width, at, colour, dash) => stroke(g, [0, at], [width, at], colour, dash);

  function stroke(g, from, to, colour, dash) {
    g.strokeStyle = colour;
    g.setLineDash(dash);
    g.beginPath();
    g.moveTo(...from);
    g.lineTo(...to);
    g.stroke();
    g.setLineDash([]);
  }

  return {
    update(next) { curve = next; draw(); },
    level(next) { level = next; draw(); },
  };
}
