// The documents that make up the next context: dropped, chosen or pasted, and kept in this tab only.

import { Failure } from "./api.js";
import { bytes } from "./format.js";
import { button, byId, element } from "./page.js";

const documents = [];
let changed = () => {};

export const list = () => documents.map(({ name, text }) => ({ name, text }));

export function start(onChange) {
  changed = onChange;
  const files = byId("files");
  files.addEventListener("change", async () => {
    await addFiles([...files.files]);
    files.value = "";
  });
  byId("write").addEventListener("click", () => openWriting(byId("writing").hidden));
  byId("writing").addEventListener("submit", addWritten);
  watchDrops();
  document.addEventListener("paste", addPasted);
}

function openWriting(open) {
  byId("writing").hidden = !open;
  byId("write").setAttribute("aria-expanded", open);
  if (open) byId("text").focus();
}

function addWritten(event) {
  event.preventDefault();
  const text = byId("text").value;
  if (!text.trim()) return say("Nothing to add: the text is empty.");
  say("");
  add("Pasted text", text);
  byId("text").value = "";
  openWriting(false);
  byId("encode").focus();
}

// A paste that no field takes is a document.
function addPasted(event) {
  if (event.target.closest?.("input, textarea")) return;
  const text = event.clipboardData.getData("text/plain");
  if (event.clipboardData.files.length) addFiles([...event.clipboardData.files]);
  else if (text.trim()) add("Pasted text", text);
}

function watchDrops() {
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    byId("drop").classList.toggle("over", depth > 0);
  };
  window.addEventListener("dragenter", () => mark(1));
  window.addEventListener("dragleave", () => mark(-1));
  window.addEventListener("dragover", (event) => {
    if (!event.target.closest?.("input, textarea") || event.dataTransfer.types.includes("Files")) {
      event.preventDefault();
    }
  });
  window.addEventListener("drop", (event) => {
    mark(-depth);
    const { files } = event.dataTransfer;
    const text = event.dataTransfer.getData("text/plain");
    if (files.length === 0 && event.target.closest?.("input, textarea")) return;
    event.preventDefault();
    if (files.length) addFiles([...files]);
    else if (text.trim()) add("Dropped text", text);
  });
}

async function addFiles(files) {
  const refused = [];
  for (const file of files) {
    try {
      add(file.name, await readText(file));
    } catch (error) {
      refused.push(error.message);
    }
  }
  say(refused.join(" "));
}

async function readText(file) {
  let content;
  try {
    content = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Failure(`${file.name}: cannot be read. Is it a folder?`);
  }
  const isPdf = String.fromCharCode(...content.subarray(0, 5)) === "%PDF-";
  if (isPdf) throw new Failure(`${file.name}: a PDF, not text. pdftotext makes text of it.`);
  if (content.includes(0)) throw new Failure(`${file.name}: not text: it has a NUL byte.`);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    throw new Failure(`${file.name}: not UTF-8 text.`);
  }
  if (!text.trim()) throw new Failure(`${file.name}: empty.`);
  return text;
}

function add(name, text) {
  let free = name;
  for (let n = 2; documents.some((other) => other.name === free); ++n) free = `${name} (${n})`;
  documents.push({ name: free, text, size: new Blob([text]).size });
  render();
}

function remove(index) {
  documents.splice(index, 1);
  render();
  const left = byId("documents").querySelectorAll("button");
  (left[Math.min(index, left.length - 1)] ?? byId("files")).focus();
}

function render() {
  byId("documents").replaceChildren(...documents.map((one, index) => {
    const row = element("li");
    row.append(element("span", "name", one.name), element("span", "soft", bytes(one.size)),
      button("Remove", `Remove ${one.name}`, () => remove(index)));
    return row;
  }));
  changed();
}

function say(text) {
  byId("document-error").textContent = text;
}
