// Pictures of many cameras over one connection: a browser opens six at most to one host, and each endless <img>
// would take one for ever. Reads multipart MJPEG from a fetch stream; parts name their camera in X-Camera.
import { Refusal, refusal } from "./api.js";

const CRLF2 = [13, 10, 13, 10];
// Longer than the feed's: a slow camera may say nothing for some seconds, and a new connection costs little.
const SILENT_MS = 10000;
const AGAIN_MS = 1000;

// `onTrouble` is told why no pictures come, and "" as soon as they may.
export function watchPictures(cameras, onPicture, { overlay = true, onTrouble = () => {} } = {}) {
  const query = cameras.map((name) => `camera=${encodeURIComponent(name)}`).join("&");
  let abort = new AbortController();
  let closed = false;
  async function run() {
    while (!closed) {
      abort = new AbortController();
      if (!document.hidden) await read(`/api/v1/mjpeg?${query}&overlay=${overlay}`, abort, onPicture, onTrouble).catch(tell);
      if (!closed) await pause(document.hidden);
    }
  }
  function tell(error) {
    if (!closed && !document.hidden) onTrouble(error instanceof Refusal ? error.message : "The server does not answer.");
  }
  // A hidden page shows nothing, so it asks for nothing.
  const onVisibility = () => { if (document.hidden) abort.abort(); };
  document.addEventListener("visibilitychange", onVisibility);
  run();
  return () => { closed = true; abort.abort(); document.removeEventListener("visibilitychange", onVisibility); };
}

function pause(untilVisible) {
  if (!untilVisible) return new Promise((done) => setTimeout(done, AGAIN_MS));
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

async function read(url, abort, onPicture, onTrouble) {
  let timer = null;
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => abort.abort(), SILENT_MS); };
  heard();
  try {
    const answer = await fetch(url, { signal: abort.signal });
    if (!answer.ok) throw await refusal(answer);
    onTrouble("");
    await readParts(answer.body.getReader(), heard, (part) => onPicture(part.headers["x-camera"], part));
  } finally { clearTimeout(timer); }
}

async function readParts(reader, heard, onPart) {
  let rest = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    rest = join(rest, value);
    for (let part; (part = takePart(rest)); rest = part.rest) onPart(part);
  }
}

// {headers, jpeg, rest} of the first whole part, or null while it is not all there.
export function takePart(bytes) {
  const end = indexOf(bytes, CRLF2);
  if (end < 0) return null;
  const headers = Object.fromEntries(
    new TextDecoder().decode(bytes.subarray(0, end)).split("\r\n").filter((l) => l.includes(":"))
      .map((l) => [l.slice(0, l.indexOf(":")).toLowerCase(), l.slice(l.indexOf(":") + 1).trim()]));
  const start = end + 4, stop = start + Number(headers["content-length"]);
  if (!(stop <= bytes.length)) return null;
  return { headers, jpeg: bytes.slice(start, stop), rest: bytes.subarray(stop) };
}

function indexOf(bytes, pattern) {
  for (let at = bytes.indexOf(pattern[0]); at >= 0; at = bytes.indexOf(pattern[0], at + 1)) {
    if (pattern.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return -1;
}

function join(a, b) {
  if (a.length === 0) return b;
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

// Draws a part's JPEG on a canvas; while one is being decoded, only the newest that comes meanwhile is kept.
// `onDrawn` is told when the picture was taken, by the camera's clock: good for telling pictures apart, not for reading.
export function painter(canvas, onDrawn) {
  let next = null, busy = false;
  return async (part) => {
    next = part;
    if (busy) return;
    busy = true;
    while (next) {
      const blob = new Blob([next.jpeg], { type: "image/jpeg" });
      const taken = next.headers["x-taken-at"];
      next = null;
      const bitmap = await createImageBitmap(blob).catch(() => null);
      if (!bitmap) continue;
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
      }
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      canvas.dataset.pictures = Number(canvas.dataset.pictures ?? 0) + 1;
      bitmap.close();
      onDrawn(taken);
    }
    busy = false;
  };
}
