// The few things that every view does to the document. Text is set as text, never as HTML.
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const button = (words, onclick, attributes = {}) => el("button", { type: "button", onclick: once(onclick), ...attributes }, words);

// An <img> that fills itself once the server has it: it may be away, or be writing it still.
const AGAIN_MS = 1000, SELDOM_MS = 60000;

export function image(attributes) {
  const node = el("img", attributes);
  let wait = AGAIN_MS;
  node.addEventListener("error", () => {
    setTimeout(() => { if (node.isConnected) node.src = node.src; }, wait);
    wait = Math.min(2 * wait, SELDOM_MS);
  });
  return node;
}

// Fingers press twice: while the first press is being answered, another one does nothing.
export function once(job) {
  let busy = false;
  return async () => {
    if (busy) return;
    busy = true;
    try { await job(); } finally { busy = false; }
  };
}

export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function badge(node, value, tone) {
  text(node, value);
  node.dataset.tone = tone;
}

// Like replaceChildren, but what stays is not taken out, so that it keeps the focus.
export function replace(parent, children) {
  const before = [...parent.children];
  for (const child of before) if (!children.includes(child)) child.remove();
  children.forEach((child, i) => { if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null); });
  if (before.some((child, i) => child.isConnected && child !== children[i])) movedAt.set(parent, performance.now());
}

// A finger that is on its way to one thing must not press what has just come to its place.
const SETTLED_MS = 700;
const movedAt = new WeakMap();
export const JUST_MOVED = "The pictures have just moved: press again.";
export const hasMoved = (parent) => performance.now() - (movedAt.get(parent) ?? -Infinity) < SETTLED_MS;

// Takes out of a map what is not wanted any more.
export function keepOnly(map, wanted) {
  for (const key of [...map.keys()]) if (!wanted.has(key)) map.delete(key);
}

export const number = (value, digits = 0) => (value == null ? "–" : value.toFixed(digits));

export function ago(iso, now) {
  return span((Date.parse(now) - Date.parse(iso)) / 1000);
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const min = Math.floor((s % 3600) / 60);
  if (s < 86400) return `${Math.floor(s / 3600)} h${min ? ` ${min} min` : ""}`;
  return `${Math.floor(s / 86400)} d`;
}

// The line's time. A panel's own clock may be hours off; a few seconds are the way here.
const TRANSIT_MS = 5000;
let off = 0;
export function setClock(iso) {
  const by = Date.parse(iso) - Date.now();
  off = Math.abs(by) > TRANSIT_MS ? by : 0;
}
export const lineTime = () => Date.now() + off;

// The time, and the day too where it isn't today's.
export function clock(at, now = lineTime()) {
  const then = new Date(at);
  if (then.toDateString() === new Date(now).toDateString()) return then.toLocaleTimeString();
  return then.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

export const when = (iso) => new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
