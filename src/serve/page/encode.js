// Encode: sends the documents, shows their blocks as they are encoded, can be cancelled.

import { events, request } from "./api.js";
import * as documents from "./documents.js";
import { count, counted, duration, line, rate } from "./format.js";
import { announce, byId, show } from "./page.js";
import * as settings from "./settings.js";
import * as tiles from "./tiles.js";

let running = null;   // the AbortController of the encoding that runs
let told = 0;         // quarters that a screen reader was told of
let encoded = [];     // the documents that were encoded last

export const isRunning = () => running !== null;

export function start({ onProgress, onEncoded, onFailed }) {
  byId("encode").addEventListener("click", () => encode({ onProgress, onEncoded, onFailed }));
  byId("cancel").addEventListener("click", cancel);
}

export function cancel() {
  running?.abort();
}

// After the documents changed, or an encoding began or ended.
export function update() {
  const n = documents.list().length;
  byId("encode").disabled = n === 0;
  show(byId("encode"), !running, byId("cancel"));
  show(byId("cancel"), running !== null, byId("question"));
  const same = n > 0 && areEqual(documents.list(), encoded);
  byId("encode").classList.toggle("primary", !same);
  note(running ? "" : same ? "Encoded: ask about it" : n > 1 ? `${n} documents, one context` : "");
}

// What a context that is there cost to encode.
export function showCost({ tokens, cached_tokens, encode_ms }) {
  const n = tokens - cached_tokens;
  say(n > 0 ? `Encoded in ${duration(encode_ms)}` : "Was in the store", line(
    counted(tokens, "token"),
    n > 0 && encode_ms > 0 && rate((1000 * n) / encode_ms),
    n > 0 && cached_tokens > 0 && `${count(cached_tokens)} were in the store`));
}

function say(progress, figures) {
  byId("progress").textContent = progress;
  byId("figures").textContent = figures;
}

function note(text) {
  byId("encode-note").textContent = text;
}

function areEqual(files, others) {
  return files.length === others.length &&
    files.every(({ name, text }, i) => name === others[i].name && text === others[i].text);
}

function contextName(files) {
  const [first, second] = files.map(({ name }) => name);
  if (files.length < 3) return second ? `${first}, ${second}` : first;
  return `${first} and ${files.length - 1} more`;
}

async function encode({ onProgress, onEncoded, onFailed }) {
  byId("document-error").textContent = "";
  const files = documents.list();
  const controller = new AbortController();
  let last = null;
  let made = null;
  try {
    const body = { files, name: contextName(files), stream: true, ...settings.encoding() };
    byId("cancel").hidden = false;
    running = controller;
    begin();
    const { signal } = controller;
    const response = await request("v1/contexts", { method: "POST", body, signal });
    for await (const event of events(response, signal)) {
      if (event.object === "context") made = event;
      if (!event.prompt_progress) continue;
      progress(event, last === null);
      last = event.prompt_progress;
      onProgress();
    }
  } catch (error) {
    byId("document-error").textContent =
      controller.signal.aborted ? cancelled(last) : error.message;
    announce("");
  }
  running = null;
  if (made) encoded = files;
  update();
  made ? onEncoded(made) : onFailed();
}

function begin() {
  told = 0;
  update();
  byId("blocks").hidden = false;
  byId("legend").hidden = true;
  tiles.asProgress();
  say("Waiting for the server", "");
  announce("Encoding begins");
}

function cancelled(last) {
  const where = last ? ` at ${count(last.processed)} of ${count(last.total)} tokens` : "";
  return `Cancelled${where}. Encode goes on from there while the store has it.`;
}

function progress(event, isFirst) {
  const { total, cache, processed, time_ms, time_left_ms } = event.prompt_progress;
  if (isFirst) {
    tiles.draw({ total, ...event });
    tiles.fill(cache);
  }
  tiles.fill(processed);
  tiles.asProgress(processed);
  const perSecond = time_ms > 0 ? (1000 * (processed - cache)) / time_ms : 0;
  say(time_left_ms > 0 ? `${duration(time_left_ms)} left` : "Nearly done", line(
    `${count(processed)} of ${count(total)} tokens`,
    perSecond > 0 && rate(perSecond),
    cache > 0 && `${count(cache)} were in the store`));
  const quarter = Math.floor((4 * processed) / total);
  if (quarter > told && quarter < 4) announce(`${25 * quarter} % encoded`);
  told = quarter;
}
