// One tile for each block of the context; a tile fills as its tokens are processed.
//
// shape: {total, attention, block_size, anchor_size, window, overlap, blocks}, in tokens but for
// the window and the blocks, which are numbers of blocks. Dense attention has one tile. What
// belongs to the anchor (the first anchor_size tokens) is amber, and so is the edge of each later
// block, which is encoded behind it.

import { count, counted } from "./format.js";
import { byId, element } from "./page.js";

const kMost = 24;  // more tiles than this are small and bear no caption

let tiles = [];
let shape = null;

export function draw(next) {
  shape = { ...next, star: next.attention === "star" && next.block_size > 0 };
  const size = shape.star ? shape.block_size : shape.total;
  tiles = [];
  for (let first = 0; first < shape.total; first += size) {
    tiles.push(makeTile(first, size, tiles.length + 1));
  }
  const root = byId("tiles");
  root.replaceChildren(...tiles.map(({ item }) => item));
  root.classList.toggle("many", tiles.length > kMost);
  root.classList.toggle("one", tiles.length === 1);
  byId("legend").hidden = !shape.star;
  const note = byId("window-note");
  note.textContent = seenBefore();
  note.hidden = !note.textContent;
}

// What a block sees besides the anchor and itself.
function seenBefore() {
  const parts = [];
  if (shape.overlap > 0) parts.push(counted(shape.overlap, "token"));
  if (shape.window > 0) parts.push(shape.window > 1 ? counted(shape.window, "block") : "block");
  return parts.length ? `each sees the ${parts.join(" and the ")} before it, too` : "";
}

function makeTile(first, whole, number) {
  const size = Math.min(whole, shape.total - first);
  const anchor = shape.star ? Math.min(size, Math.max(0, shape.anchor_size - first)) : 0;
  const item = element("div", "tile");
  item.classList.toggle("anchor", anchor > 0);
  item.classList.toggle("behind", shape.star && anchor === 0);
  item.style.setProperty("--part", `${(100 * anchor) / size}%`);
  item.style.setProperty("--width", `${(100 * size) / whole}%`);
  item.dataset.tokens = size;
  const bar = element("span", "bar");
  bar.append(element("span", "fill"));
  const name = !shape.star ? "dense" : `${number}${anchor > 0 ? " anchor" : ""}`;
  item.append(bar, element("span", "number", name), element("span", "soft", count(size)));
  return { item, first, size };
}

export function fill(processed) {
  for (const { item, first, size } of tiles) {
    const part = Math.min(1, Math.max(0, (processed - first) / size));
    item.style.setProperty("--filled", `${100 * part}%`);
    item.dataset.filled = part.toFixed(3);
    item.classList.toggle("begun", part > 0);
    item.classList.toggle("running", part > 0 && part < 1);
  }
}

// While it is encoded the whole is a progress bar to a screen reader; before the first figures, one
// without a value.
export function asProgress(processed) {
  const root = byId("tiles");
  root.setAttribute("role", "progressbar");
  root.setAttribute("aria-label", "Encoding the context");
  if (processed === undefined) {
    root.replaceChildren();
    for (const name of ["now", "min", "max", "text"]) root.removeAttribute(`aria-value${name}`);
    return;
  }
  const block = tiles.filter(({ first }) => first < Math.max(1, processed)).length;
  const where = shape.star ? `, block ${block} of ${tiles.length}` : "";
  root.setAttribute("aria-valuemin", 0);
  root.setAttribute("aria-valuemax", shape.total);
  root.setAttribute("aria-valuenow", processed);
  root.setAttribute("aria-valuetext", `${count(processed)} of ${count(shape.total)} tokens${where}`);
}

// Once it is encoded it is a picture.
export function asPicture() {
  const root = byId("tiles");
  for (const name of ["now", "min", "max", "text"]) root.removeAttribute(`aria-value${name}`);
  root.setAttribute("role", "img");
  root.setAttribute("aria-label", shape.star
    ? [`${counted(tiles.length, "block")} of ${count(shape.block_size)} tokens`,
       `the first ${count(shape.anchor_size)} are the anchor`, seenBefore()].filter(Boolean).join("; ")
    : `${count(shape.total)} tokens in one piece`);
}
