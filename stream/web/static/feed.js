// The line's whole state, about once a second. EventSource connects again by itself, for ever.
export const feed = {
  line: null,
  listen(onLine, onConnection) {
    const source = new EventSource("/api/v1/live");
    source.onopen = () => onConnection(true);
    source.onerror = () => {
      onConnection(false);
      // A refusal (e.g. 503, too many viewers) closes it for good, so ask again.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.listen(onLine, onConnection), 3000);
    };
    source.onmessage = (message) => {
      this.line = JSON.parse(message.data);
      onLine(this.line);
    };
  },
};
