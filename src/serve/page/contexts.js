// The contexts that the server has: choose one to ask about, or delete one.

import { getJson, request } from "./api.js";
import { bytes, count, counted, line } from "./format.js";
import { button, byId, element } from "./page.js";

let known = [];
let chosen = "";
let notify = () => {}, notifyRemoved = () => {};
let shown = "";

export const get = (id) => known.find((context) => context.id === id);

export const title = (context) => context.name || `Context ${context.id.replace(/^ctx_/, "")}`;

export const describe = (context) => line(
  counted(context.tokens, "token"),
  context.attention === "star"
    ? `star, ${counted(context.blocks, "block")} of ${count(context.block_size)}` : context.attention,
  bytes(context.bytes));

const kind = ({ attention, blocks }) => (attention === "star" ? counted(blocks, "block") : attention);

export function start({ onChoose, onRemoved }) {
  notify = onChoose;
  notifyRemoved = onRemoved;
  byId("contexts").addEventListener("change", (event) => choose(event.target.value));
}

export function add(context) {
  known = [context, ...known.filter(({ id }) => id !== context.id)];
}

export function choose(id) {
  chosen = id;
  render();
  notify(id);
}

export async function refresh() {
  try {
    known = (await getJson("v1/contexts")).data;
    byId("store-error").textContent = "";
  } catch (error) {
    byId("store-error").textContent = error.message;
  }
  render();
}

async function remove(id) {
  try {
    await request(`v1/contexts/${encodeURIComponent(id)}`, { method: "DELETE" });
  } catch (error) {
    if (error.status !== 404) {
      byId("store-error").textContent = error.message;
      return;
    }
  }
  await refresh();
  notifyRemoved();
  if (chosen === id) choose("");
  byId("contexts").querySelector("input:checked")?.focus();
}

// Rows that did not change stay as they are, so that nobody loses the focus to a refresh.
function render() {
  const rows = [{ id: "", label: "No document", figures: "a chat by itself" },
    ...known.map((context) => ({ id: context.id, label: title(context),
      figures: line(counted(context.tokens, "token"), kind(context), bytes(context.bytes)) }))];
  if (chosen && !get(chosen)) rows.push({ id: chosen, label: "Gone from the store", figures: chosen });
  const now = JSON.stringify(rows);
  if (now !== shown) {
    const focused = document.activeElement?.closest("#contexts .choice")?.dataset.id;
    byId("contexts").replaceChildren(byId("contexts").firstElementChild, ...rows.map(row));
    shown = now;
    if (focused !== undefined) input(focused)?.focus();
  }
  input(chosen).checked = true;
}

const input = (id) =>
  [...byId("contexts").querySelectorAll("input")].find((one) => one.value === id);

function row({ id, label, figures }) {
  const made = element("div", "choice");
  made.dataset.id = id;
  const field = element("input");
  Object.assign(field, { type: "radio", name: "context", value: id });
  const caption = element("label");
  caption.append(field, element("span", "name", label), element("span", "soft", figures));
  made.append(caption);
  if (get(id)) made.append(deleteButton(id, label));
  return made;
}

// Twice, since what took minutes to encode is gone at once.
function deleteButton(id, label) {
  let sure = false;
  const say = (next) => {
    sure = next;
    made.textContent = sure ? "Really?" : "Delete";
    made.setAttribute("aria-label", sure ? `Really delete ${label}?` : `Delete ${label}`);
  };
  const made = button("", "", () => (sure ? remove(id) : say(true)));
  made.addEventListener("blur", () => say(false));
  say(false);
  return made;
}
