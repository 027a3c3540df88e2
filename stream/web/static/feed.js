// The line's whole state, about once a second. A connection that says nothing is as good as none: it is opened anew.
// A hidden page closes it, because a browser opens six connections at most to one host, for all its windows.
const SILENT_MS = 5000;
const AGAIN_MS = 3000;
const LOOK_MS = 500;

export const feed = {
  line: null,
  // `onConnection(false)` with every attempt that fails, `onConnection(true)` with every message.
  listen(onLine, onConnection) {
    let source = null, due = 0;

    function open() {
      source = new EventSource("/api/v1/live");
      due = performance.now() + SILENT_MS;
      source.onerror = () => lost(AGAIN_MS);
      source.onmessage = (message) => {
        due = performance.now() + SILENT_MS;
        onConnection(true);
        feed.line = JSON.parse(message.data);
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
      onConnection(false);
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
