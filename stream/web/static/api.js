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

export function put(path, body) {
  return ask(path, { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export const cameraPath = (name, rest) => `/api/v1/cameras/${encodeURIComponent(name)}/${rest}`;
