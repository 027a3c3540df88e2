// Asking the server: answers as objects, refusals as errors with the server's own sentence.
export async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const detail = typeof body.detail === "string" ? body.detail : `The server answered ${answer.status}.`;
    throw new Error(detail);
  }
  return body;
}

const send = (method) => (path, body) =>
  ask(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}) });

export const put = send("PUT");
export const post = send("POST");
export const remove = (path) => ask(path, { method: "DELETE" });

export const cameraPath = (name, rest) => `/api/v1/cameras/${encodeURIComponent(name)}/${rest}`;
