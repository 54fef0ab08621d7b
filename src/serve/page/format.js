// Numbers and sizes as the program prints them: 7,012 tokens, 188.7 MB, 4.1 s.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n) => whole.format(n);

export const counted = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; n >= 1000 && unit < units.length - 1; ++unit) n /= 1000;
  return `${unit === 0 || n >= 1000 ? whole.format(n) : n.toFixed(1)} ${units[unit]}`;
}

export function duration(ms) {
  if (ms < 999.5) return `${whole.format(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export const rate = (perSecond) =>
  `${perSecond < 100 ? perSecond.toFixed(1) : whole.format(perSecond)} tokens/s`;

// What is known of some figures, in one line that breaks between them.
export const line = (...parts) =>
  parts.filter(Boolean).map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");
