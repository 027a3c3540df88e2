// A subscriber in Node.js >= 18 without packages: node subscriber.mjs 127.0.0.1 6379 linewatch:plant-a:line-1:events
// The password comes from the environment: BROKER_PASSWORD (and BROKER_USER). --once ends when nothing is left.
// It ends when the broker goes away: let a service manager start it again, nothing is lost meanwhile.
import net from "node:net";
import os from "node:os";

const [host, port, stream] = process.argv.slice(2);
const once = process.argv.includes("--once");
const group = "node-example", me = os.hostname(); // the same after a restart: what was not acknowledged comes again
const socket = net.connect(Number(port), host);
let buffer = Buffer.alloc(0), wake = () => {};
socket.on("data", (chunk) => { buffer = Buffer.concat([buffer, chunk]); wake(); });
socket.on("error", (error) => { console.error(error.message); process.exit(1); });
socket.on("close", () => { console.error("the broker closed the connection"); process.exit(1); });

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
  const answer = await reply();
  if (answer instanceof Error && !answer.message.startsWith("BUSYGROUP")) throw answer;
  return answer;
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
    const at = flat ? flat.indexOf("data") : -1; // no fields: the entry was trimmed meanwhile
    const event = at < 0 ? null : JSON.parse(flat[at + 1]);
    if (event?.schema === "defect/1" && !seen.has(event.id)) {
      console.log(event.captured_at, event.camera, event.seq, event.type, event.verdict); // your side effect
      seen.add(event.id);
    }
    await ask("XACK", stream, group, id); // after the side effect
  }
}
