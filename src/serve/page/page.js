// What the modules of the page share: elements, and what a screen reader is told.

export const byId = (id) => document.getElementById(id);

// An element with a class and text. Text of documents, models and servers comes in here only, as text.
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function button(text, label, onClick) {
  const made = element("button", "plain", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", onClick);
  return made;
}

export function announce(text) {
  byId("status").textContent = text;
}

// Shows a button or hides it; a hidden one that had the focus hands it on.
export function show(element, visible, heir) {
  const focused = document.activeElement === element;
  element.hidden = !visible;
  if (!visible && focused) heir.focus();
}
