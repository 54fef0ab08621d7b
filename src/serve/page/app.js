// The page: documents, the encoding, the store and the conversations, put together.

import { getJson } from "./api.js";
import { Conversation } from "./chat.js";
import * as contexts from "./contexts.js";
import * as documents from "./documents.js";
import * as encoding from "./encode.js";
import { bytes, count, counted, line } from "./format.js";
import { announce, byId, show } from "./page.js";
import * as settings from "./settings.js";
import * as tiles from "./tiles.js";

const kPropsInterval = 2000;  // ms between two looks at the memory while a context is encoded

const conversations = new Map();  // by context; "" is the one without a document
let current = conversationOf("");
let lookedAt = 0;
let pinned = true;      // the end of the conversation is in view and stays so
let following = false;  // it will be brought into view with the next frame

function conversationOf(id) {
  if (!conversations.has(id)) conversations.set(id, new Conversation());
  const conversation = conversations.get(id);
  conversation.contextId = id;
  return conversation;
}

async function showProps() {
  lookedAt = performance.now();
  try {
    const { model, n_ctx_train, n_threads, isa, kv_memory } = await getJson("props");
    byId("facts").textContent = line(
      model?.split("/").pop().replace(/\.gguf$/, ""),
      n_ctx_train && `trained for ${count(n_ctx_train)} tokens`,
      n_threads && counted(n_threads, "thread"), isa);
    const { used_bytes: used, limit_bytes: limit } = kv_memory;
    byId("memory").textContent = `KV memory ${bytes(used)} of ${bytes(limit)}`;
    byId("memory-bar").firstElementChild.style.width =
      used > 0 ? `max(2px, ${Math.min(100, (100 * used) / limit)}%)` : "0";
  } catch (error) {
    byId("facts").textContent = error.message;
    if (error.status === 401) byId("settings").open = true;
  }
}

function refresh() {
  return Promise.all([contexts.refresh(), showProps()]);
}

function showContext(context) {
  if (encoding.isRunning()) return;
  byId("blocks").hidden = !context;
  if (!context) return;
  tiles.draw({ total: context.tokens, ...context });
  tiles.fill(context.tokens);
  tiles.asPicture();
  encoding.showCost(context);
}

function onChoose(id) {
  current = conversationOf(id);
  byId("turns").replaceChildren(current.element);
  showContext(contexts.get(id));
  sayAskError("");
  pinned = true;
  update();
  const unsent = current.unsent;
  if (!unsent) return;
  current.unsent = null;
  sayAskError(unsent.message);
  if (!byId("question").value) setQuestion(unsent.question);
}

// The conversation about a document that had left the store and was encoded anew goes on. One about
// another document does not.
function goOnAbout(context) {
  const { contextId: lost, document: about, running } = current;
  const isSame = about?.title === contexts.title(context) && about.tokens === context.tokens;
  if (!lost || contexts.get(lost) || running || !isSame) return;
  conversations.set(context.id, current);
  conversations.delete(lost);
}

// A running answer is not taken out of sight: then the new context waits in the list.
function onEncoded(context) {
  contexts.add(context);
  goOnAbout(context);
  contexts.choose(current.running ? current.contextId : context.id);
  announce(`Encoded: ${contexts.describe(context)}. Ask a question.`);
  refresh();
}

function update() {
  const context = contexts.get(current.contextId);
  if (context) current.document = { title: contexts.title(context), tokens: context.tokens };
  byId("subject").textContent =
    context ? contexts.title(context) : current.contextId ? "Gone from the store" : "No document";
  byId("subject-figures").textContent = context ? contexts.describe(context) : "";
  byId("hello").hidden = current.contextId !== "" || current.element.childElementCount > 0;
  byId("fresh").hidden = current.element.childElementCount === 0;
  byId("send").disabled = current.running !== null;
  show(byId("stop"), current.running !== null, byId("question"));
  follow();
}

function follow() {
  if (!pinned || following) return;
  following = true;
  requestAnimationFrame(() => {
    following = false;
    byId("end").scrollIntoView({ block: "nearest" });
  });
}

function sayAskError(text) {
  byId("ask-error").textContent = text;
}

async function ask(event) {
  event?.preventDefault();
  const box = byId("question");
  const conversation = current;
  const question = box.value;
  if (conversation.running || !question.trim()) return;
  let options;
  try {
    options = settings.answering(conversation.contextId !== "");
  } catch (error) {
    return sayAskError(error.message);
  }
  sayAskError("");
  pinned = true;
  setQuestion("");
  if (document.activeElement === byId("send")) box.focus();
  const failure = await conversation.ask(question, options, {
    onChange: () => conversation === current && update(),
    onText: () => conversation === current && follow(),
  });
  if (conversation === current) {
    if (failure) sayAskError(failure.message);
    if (conversation.failed && !box.value) setQuestion(question);
  } else if (conversation.failed) {  // said when it is in sight again
    conversation.unsent = { question, message: failure?.message ?? "" };
  }
  refresh().then(() => conversation === current && update());
}

function setQuestion(text) {
  byId("question").value = text;
  fit();
}

// The box is as tall as what is in it, up to what the style allows.
function fit() {
  const box = byId("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

function onKey(event) {
  if (event.isComposing) return;
  if (event.key === "Escape") {
    if (current.running) current.stop();
    else if (event.target.closest?.(".context")) encoding.cancel();
  }
  if (event.key === "Enter" && !event.shiftKey && event.target === byId("question")) ask(event);
}

function onScroll() {
  const talk = byId("talk");
  const floor = Math.min(talk.getBoundingClientRect().bottom, byId("ask").getBoundingClientRect().top);
  pinned = byId("end").getBoundingClientRect().top < floor + 60;
}

settings.start(refresh);
contexts.start({ onChoose, onRemoved: showProps });
documents.start(encoding.update);
encoding.start({
  onEncoded,
  onFailed: () => showContext(contexts.get(current.contextId)),
  onProgress: () => performance.now() - lookedAt > kPropsInterval && showProps(),
});
byId("ask").addEventListener("submit", ask);
byId("stop").addEventListener("click", () => current.stop());
byId("fresh").addEventListener("click", () => {
  current.clear();
  conversations.delete(current.contextId);
  contexts.choose(current.contextId);
  byId("question").focus();
});
byId("question").addEventListener("input", fit);
document.addEventListener("keydown", onKey);
document.addEventListener("scroll", onScroll, { capture: true, passive: true });
document.addEventListener("visibilitychange", () => document.hidden || refresh());
byId("turns").append(current.element);
encoding.update();
refresh().then(update);
