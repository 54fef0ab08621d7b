// Requests to the server that served this page. Whatever goes wrong is a Failure whose message is
// one line for a person; a request that was aborted by its signal throws the signal's AbortError.

export class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

let key = "";

export function useKey(text) {
  key = text;
}

export async function request(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: JSON.stringify(body) });
  } catch (error) {
    signal?.throwIfAborted();
    throw new Failure("The server does not answer. Is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

export async function getJson(path) {
  return (await request(path)).json();
}

async function refusal(response) {
  let message = `The server answered ${response.status} ${response.statusText}`.trim();
  try {
    message = (await response.json()).error.message;
  } catch {
    // No error of the API: the status has to do.
  }
  const seconds = response.headers.get("Retry-After");
  if (seconds) message += ` (try again in ${seconds} s)`;
  return new Failure(message, response.status);
}

// The events of a stream as objects, up to [DONE].
export async function* events(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await read(reader, signal);
      if (done) throw new Failure("The connection ended too early.");
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Failure(event.error.message);
        signal?.throwIfAborted();
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function read(reader, signal) {
  try {
    return await reader.read();
  } catch (error) {
    signal?.throwIfAborted();
    throw new Failure("The connection was lost.");
  }
}
