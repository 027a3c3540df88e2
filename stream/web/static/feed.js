// The line's whole state, about once a second. A connection that says nothing is as good as none: it is opened anew.
// A hidden page closes it, because a browser opens six connections at most to one host, for all its windows.
import { refusal, within } from "./api.js";
import { setClock } from "./dom.js";

const SILENT_MS = 5000;
const AGAIN_MS = 3000;
const LOOK_MS = 500;
const WHY_MS = 3000;

export const feed = {
  line: null,
  // `onConnection(false, why)` with every attempt that fails, `onConnection(true)` with every message; `why` is the
  // server's own sentence, "" if it gave none.
  listen(onLine, onConnection) {
    let source = null, due = 0, why = "";

    function open() {
      source = new EventSource("/api/v1/live");
      due = performance.now() + SILENT_MS;
      source.onerror = refused;
      source.onmessage = (message) => {
        due = performance.now() + SILENT_MS;
        why = "";
        onConnection(true);
        feed.line = JSON.parse(message.data);
        setClock(feed.line.now);
        onLine(feed.line);
      };
    }

    function close() {
      source?.close();
      source = null;
    }

    // An error is met with patience: the server may be starting, or every seat be taken.
    function lost(wait) {
      close();
      due = performance.now() + wait;
      onConnection(false, why);
    }

    async function refused() {
      lost(AGAIN_MS);
      why = await whyNot();
      if (!source) onConnection(false, why);
    }

    function look() {
      if (document.hidden) { close(); due = 0; return; }
      if (performance.now() < due) return;
      if (source) lost(0);
      open();
    }

    setInterval(look, LOOK_MS);
    document.addEventListener("visibilitychange", look);
    look();
  },
};

// An EventSource keeps to itself what it was answered.
async function whyNot() {
  try {
    const answer = await fetch("/api/v1/live", { signal: within(WHY_MS) });
    if (answer.ok) answer.body.cancel();
    else {
      const { message } = await refusal(answer);
      if (answer.status === 503) return message; // anything else is a proxy's word, or the login's affair
    }
  } catch { /* nobody answered */ }
  return "";
}
