// Pictures of many cameras over one connection: a browser opens six at most to one host, and each endless <img>
// would take one for ever. Reads multipart MJPEG from a fetch stream; parts name their camera in X-Camera.
const CRLF2 = [13, 10, 13, 10];

export function watchPictures(cameras, onPicture, overlay = true) {
  const query = cameras.map((name) => `camera=${encodeURIComponent(name)}`).join("&");
  let abort = new AbortController();
  let closed = false;
  async function run() {
    while (!closed) {
      abort = new AbortController();
      if (!document.hidden) await read(`/api/v1/mjpeg?${query}&overlay=${overlay}`, abort.signal, onPicture).catch(() => {});
      if (!closed) await pause(document.hidden);
    }
  }
  // A hidden page shows nothing, so it asks for nothing.
  const onVisibility = () => { if (document.hidden) abort.abort(); };
  document.addEventListener("visibilitychange", onVisibility);
  run();
  return () => { closed = true; abort.abort(); document.removeEventListener("visibilitychange", onVisibility); };
}

function pause(untilVisible) {
  if (!untilVisible) return new Promise((done) => setTimeout(done, 1000));
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

async function read(url, signal, onPicture) {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(answer.statusText);
  const reader = answer.body.getReader();
  let rest = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest = join(rest, value);
    for (let part; (part = takePart(rest)); rest = part.rest) onPicture(part.headers["x-camera"], part);
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

// Draws a JPEG on a canvas; while one is being decoded, only the newest that comes meanwhile is kept.
export function painter(canvas) {
  let next = null, busy = false;
  return async (jpeg) => {
    next = jpeg;
    if (busy) return;
    busy = true;
    while (next) {
      const blob = new Blob([next], { type: "image/jpeg" });
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
    }
    busy = false;
  };
}
