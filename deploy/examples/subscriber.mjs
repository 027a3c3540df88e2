// A subscriber in Node.js >= 18 without packages: node subscriber.mjs 127.0.0.1 6379 linewatch:plant-a:line-1:events
// The password comes from the environment: BROKER_PASSWORD (and BROKER_USER). --once ends when nothing is left.
// It ends when the broker goes away: let a service manager start it again, nothing is lost meanwhile.
import net from "node:net";
import os from "node:os";

const [host, port, stream] = process.argv.slice(2);
const once = process.argv.includes("--once");
const end = (words) => { console.error(words); process.exit(1); };
if (!stream || !(port > 0)) end("Say which broker and which stream: node subscriber.mjs 127.0.0.1 6379 STREAM");
const group = "node-example", me = os.hostname(); // the same after a restart: what was not acknowledged comes again
const socket = net.connect(Number(port), host);
let buffer = Buffer.alloc(0), wake = () => {};
socket.on("data", (chunk) => { buffer = Buffer.concat([buffer, chunk]); wake(); });
socket.on("error", (error) => end(`The broker at ${host}:${port} can't be asked: ${error.message}`));
socket.on("close", () => end(`The broker at ${host}:${port} closed the connection.`));

const more = () => new Promise((resolve) => { wake = resolve; });

async function line() {
  for (;;) {
    const end = buffer.indexOf("\r\n");
    if (end >= 0) { const text = buffer.toString("utf8", 0, end); buffer = buffer.subarray(end + 2); return text; }
    await more();
  }
}

async function reply() { // RESP2: + simple, - error, : number, $ text, * list
  const head = await line(), kind = head[0], rest = head.slice(1);
  if (kind === "-") return new Error(rest);
  if (kind === "+") return rest;
  if (kind === ":") return Number(rest);
  if (kind === "$") {
    const length = Number(rest);
    if (length < 0) return null;
    while (buffer.length < length + 2) await more();
    const text = buffer.toString("utf8", 0, length);
    buffer = buffer.subarray(length + 2);
    return text;
  }
  const list = Number(rest) < 0 ? null : [];
  for (let k = 0; k < Number(rest); k++) list.push(await reply());
  return list;
}

async function ask(...words) {
  socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(String(w))}\r\n${w}\r\n`).join(""));
  const answer = await reply(), refusal = answer instanceof Error ? answer.message : "";
  if (/^(NOAUTH|WRONGPASS)/.test(refusal))
    end(`The broker at ${host}:${port} wants another password: set BROKER_PASSWORD (and BROKER_USER).`);
  // BUSYGROUP: the group was made before. OOM: a full broker refuses to make one, also one that is there; if none
  // is, the next question's answer says so.
  const made = words[0] === "XGROUP" && /^(BUSYGROUP|OOM)/.test(refusal);
  if (refusal && !made) end(`The broker at ${host}:${port} refuses ${words[0]}: ${refusal}`);
  return answer;
}

function open(id, flat) { // null for what is no event of ours, which must not stop us
  let at = 0; // field, value, field, value, …; no fields at all: the entry was trimmed meanwhile
  while (at < (flat?.length ?? 0) && flat[at] !== "data") at += 2;
  try {
    const event = JSON.parse(flat?.[at + 1] ?? "null");
    if (event?.schema === "defect/1") return event;
  } catch { /* no JSON: told below */ }
  if (flat) console.error(`entry ${id} of ${stream} is skipped: no event of schema defect/1`);
  return null;
}

const { BROKER_USER: user = "default", BROKER_PASSWORD: password } = process.env;
if (password) await ask("AUTH", user, password);
await ask("XGROUP", "CREATE", stream, group, "0", "MKSTREAM"); // 0: also what was published before we came
const seen = new Set(); // a broker that lost data gets a replay: be idempotent by the event's id
let from = "0"; // first what an earlier run was given and did not acknowledge, then (">") what is new
for (;;) {
  const wait = once || from === "0" ? [] : ["BLOCK", 5000];
  const told = await ask("XREADGROUP", "GROUP", group, me, "COUNT", 64, ...wait, "STREAMS", stream, from);
  const entries = told?.[0][1] ?? [];
  if (!entries.length && once && from === ">") process.exit(0);
  if (!entries.length) from = ">";
  for (const [id, flat] of entries) {
    const event = open(id, flat);
    if (event && !seen.has(event.id)) {
      console.log(event.captured_at, event.camera, event.seq, event.type, event.verdict); // your side effect
      seen.add(event.id);
      if (seen.size > 100_000) seen.delete(seen.values().next().value); // the oldest
    }
    await ask("XACK", stream, group, id); // after the side effect
  }
}
