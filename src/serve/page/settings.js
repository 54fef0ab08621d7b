// The settings: read when they are used, kept in this tab's session.

import { Failure, useKey } from "./api.js";
import { byId } from "./page.js";

const kFields = ["attention", "block-size", "temperature", "max-tokens", "key", "allow-long"];
const kUnits = { "": 1, k: 1024, m: 1024 * 1024 };

const stored = (id) => `aster.${id}`;

export function start(onKey) {
  for (const id of kFields) {
    const field = byId(id);
    const kept = sessionStorage.getItem(stored(id));
    if (kept !== null) field.type === "checkbox" ? (field.checked = kept === "true") : (field.value = kept);
    field.addEventListener("input", () => {
      sessionStorage.setItem(stored(id), field.type === "checkbox" ? field.checked : field.value);
    });
  }
  useKey(byId("key").value);
  byId("key").addEventListener("change", () => {
    useKey(byId("key").value.trim());
    onKey();
  });
  byId("options").addEventListener("submit", (event) => event.preventDefault());
}

const text = (id) => byId(id).value.trim();

function refuse(id, what, expected) {
  byId("settings").open = true;
  return new Failure(`${what} ${JSON.stringify(text(id))}: expected ${expected}.`);
}

function number(id, what, pattern, expected) {
  if (!text(id)) return undefined;
  if (!pattern.test(text(id))) throw refuse(id, what, expected);
  return Number(text(id));
}

// How a context is encoded. What is not set is the server's to decide.
export function encoding() {
  const options = {};
  if (text("attention") !== "auto") options.attention = text("attention");
  if (byId("allow-long").checked) options.allow_long = true;
  const size = /^(\d+)([km]?)$/i.exec(text("block-size"));
  if (size) options.block_size = Number(size[1]) * kUnits[size[2].toLowerCase()];
  else if (!/^(auto)?$/i.test(text("block-size"))) {
    throw refuse("block-size", "Block size", "auto or a whole number");
  }
  return options;
}

// How an answer is made. About a context that is there already, nothing of its encoding is said.
export function answering(hasContext) {
  const { attention, block_size, allow_long } = encoding();
  return {
    ...(hasContext ? {} : { attention, block_size }),
    allow_long,
    temperature: number("temperature", "Temperature", /^\d*\.?\d+$/, "a number such as 0.7"),
    max_tokens: number("max-tokens", "Answer at most", /^\d+$/, "a whole number of tokens"),
  };
}
