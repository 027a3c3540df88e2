// The score over time against the alarm level, on a canvas. Above 1.0 is an alarm; the axis ends where the scale does.
const TOP = 2.0;

export function chart(canvas) {
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
    axis(g, width, y, colour);
    if (curve) bars(g, width, y, colour);
    line(g, width, y(level), colour("--warn"), level === 1.0 ? [] : [6, 4]);
  }

  function axis(g, width, y, colour) {
    g.font = "12px system-ui, sans-serif";
    g.fillStyle = colour("--dim");
    for (const value of [0, 0.5, 1, 1.5, 2]) {
      if (value < TOP) g.fillText(value === 1 ? "alarm" : `${value}×`, 4, y(value) - 3);
      line(g, width, y(value), colour("--edge"), []);
    }
    if (curve) {
      const minutes = Math.round(curve.seconds / 60);
      g.fillText(`${minutes} min ago`, 4, y(0) + 14);
      g.textAlign = "right";
      g.fillText("now", width - 4, y(0) + 14);
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

  function line(g, width, at, colour, dash) {
    g.strokeStyle = colour;
    g.setLineDash(dash);
    g.beginPath();
    g.moveTo(0, at);
    g.lineTo(width, at);
    g.stroke();
    g.setLineDash([]);
  }

  return {
    update(next) { curve = next; draw(); },
    level(next) { level = next; draw(); },
  };
}
