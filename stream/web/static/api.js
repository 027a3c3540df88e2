// Asking the server: answers as objects, refusals as errors with the server's own sentence.
import { text } from "./dom.js";

const ANSWER_MS = 15000;
const SLOW = "No answer came within 15 s: the server is busy, the network is down, or this browser shows more than two "
  + "windows of this page.";

export async function ask(path, options = {}) {
  const signal = within(ANSWER_MS);
  try {
    const answer = await fetch(path, { signal, ...options });
    if (!answer.ok) throw await refusal(answer);
    return await answer.json();
  } catch (error) {
    if (signal.aborted) throw new Error(SLOW);
    throw error instanceof Refusal ? error : new Error("The server does not answer.");
  }
}

export class Refusal extends Error {}

// Why not. That nobody is logged in (any more) is told to the whole page.
export async function refusal(answer) {
  if (answer.status === 401) dispatchEvent(new Event("loggedout"));
  const { detail } = await answer.json().catch(() => ({}));
  return new Refusal(typeof detail === "string" ? detail : `The server answered ${answer.status}.`);
}

// AbortSignal.timeout, which older tablets don't have.
export function within(ms) {
  const control = new AbortController();
  setTimeout(() => control.abort(), ms);
  return control.signal;
}

// What a card shows, and what went wrong with it in `note`. A card that could not be filled is tried again with each
// state of the line (`again`): the server may have been starting.
export function loader(job, note) {
  let trouble = "", busy = false;
  async function load() {
    busy = true;
    try {
      await job();
      if (trouble && note.textContent === trouble) note.textContent = "";
      trouble = "";
    } catch (error) { text(note, (trouble = error.message)); }
    busy = false;
  }
  return { load, again() { if (trouble && !busy) load(); } };
}

const send = (method) => (path, body) =>
  ask(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}) });

export const put = send("PUT");
export const post = send("POST");
export const remove = (path) => ask(path, { method: "DELETE" });

export const cameraPath = (name, rest) => `/api/v1/cameras/${encodeURIComponent(name)}/${rest}`;
