// What the page asks of the gateway. Every failure is a Problem.

const KEY = "xuankan.key";
const RETRIES = 5;

export class Problem extends Error {
  constructor(body) {
    super(body.detail ?? body.title ?? "");
    Object.assign(this, { code: body.code ?? "internal", field: body.field, status: body.status, retry_s: body.retry_s });
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const useKey = (key) => sessionStorage.setItem(KEY, key);

async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "offline", detail: "The server cannot be reached." });
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({ title: answer.statusText, status: answer.status }));
  throw new Problem({ ...body, retry_s: Number(answer.headers.get("Retry-After")) || undefined });
}

const json = async (path, options) => (await ask(path, options)).json();

export const service = () => json("v1/service");
export const facets = () => json("v1/facets");

/** How many journals pass filters. */
export async function count(filters) {
  const query = new URLSearchParams({ limit: 0 });
  for (const [name, value] of Object.entries(filters)) {
    for (const one of [value].flat()) query.append(name, one);
  }
  return (await json(`v1/journals?${query}`)).total;
}

export const extract = (file) => json(`v1/extract?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });

export const references = (file) => json(`v1/references?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });

/** Submit; the answer is a ranking (status `done`) or a request that waits. */
export const submit = (request, signal) =>
  json("v1/rankings?wait_s=0", {
    method: "POST",
    signal,
    headers: { "Content-Type": "application/json", "Idempotency-Key": id() },
    body: JSON.stringify(request),
  });

export const cancel = (request) => ask(`v1/rankings/${encodeURIComponent(request)}`, { method: "DELETE", keepalive: true });

/**
 * Follow a request to its ranking; `seen` is called with every state on the way. A broken stream is opened again:
 * its first event is the present state.
 */
export async function follow(request, seen, signal) {
  for (let failures = 0; ; ) {
    try {
      const answer = await ask(`v1/rankings/${encodeURIComponent(request)}/events`, { signal, headers: { Accept: "text/event-stream" } });
      for await (const { event, data } of events(answer.body)) {
        failures = 0;
        if (event === "done") return data;
        if (event === "problem") throw new Problem(data);
        seen(data);
      }
    } catch (error) {
      const passing = error instanceof Problem && !["offline", "rate_limited", "unavailable"].includes(error.code);
      if (error.name === "AbortError" || passing) throw error;
      if (failures >= RETRIES) throw error instanceof Problem ? error : new Problem({ code: "offline", detail: "The server cannot be reached." });
    }
    failures += 1;
    await pause(500 * 2 ** Math.min(failures, 4), signal);
  }
}

/** Server-sent events of a body, their data read as JSON. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let event = { event: "message", data: "" };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (text + value).split(/\r\n|\n/);
      text = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data) yield { event: event.event, data: JSON.parse(event.data) };
          event = { event: "message", data: "" };
        } else if (line.startsWith("event:")) event.event = line.slice(6).trim();
        else if (line.startsWith("data:")) event.data += line.slice(5).trimStart();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const id = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const pause = (wait_ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, wait_ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
