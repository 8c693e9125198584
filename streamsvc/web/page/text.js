// Numbers and times as people read them.

export function count(number) {
  return Math.round(number).toLocaleString("en");
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (number >= 1000 && place < units.length - 1) { number /= 1000; place += 1; }
  return `${number < 10 && place ? number.toFixed(1) : Math.round(number)} ${units[place]}`;
}

export function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function age(seconds) {
  if (seconds === null) return "–";
  return seconds < 10 ? seconds.toFixed(1) : count(seconds);
}

export function milliseconds(value) {
  return value === null ? "–" : `${count(value)} ms`;
}

export function time(ms, withSeconds = true) {
  return new Date(ms).toISOString().slice(11, withSeconds ? 19 : 16);
}

export function dateTime(ms) {
  return `${new Date(ms).toISOString().slice(0, 10)} ${time(ms)}`;
}

export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}
