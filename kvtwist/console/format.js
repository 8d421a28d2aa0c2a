// Numbers, sizes, times and durations as people read them.

const grouped = new Intl.NumberFormat("en");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function count(value) {
  return grouped.format(Math.round(value));
}

/** A rate or another small number: three digits at most. */
export function short(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  return value >= 100 || Number.isInteger(value) ? count(value) : value.toFixed(value < 10 ? 1 : 0);
}

export function bytes(size) {
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const shown = unit && size < 100 ? size.toFixed(1).replace(/\.0$/, "") : Math.round(size);
  return `${shown} ${UNITS[unit]}`;
}

export function millis(seconds) {
  const ms = seconds * 1000;
  if (!ms) return "0 ms";
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 100 ? Math.round(ms) : ms.toFixed(ms >= 10 ? 1 : 2)} ms`;
}

/** A duration in its two largest units: 1d 4h, 12m 03s, 9s. */
export function duration(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  const padded = (value) => String(value).padStart(2, "0");
  if (days) return days >= 100 ? `${days}d` : `${days}d ${hours}h`;
  if (hours) return `${hours}h ${padded(minutes)}m`;
  return minutes ? `${minutes}m ${padded(whole % 60)}s` : `${whole}s`;
}

export function ago(ms, now) {
  const seconds = (now - ms) / 1000;
  return seconds < 2 ? "just now" : `${duration(Math.floor(seconds))} ago`;
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB", { hour12: false });
}

export function moment(ms) {
  return `${new Date(ms).toLocaleDateString("sv-SE")} ${clock(ms)}`;
}

/** The short name of a media type for a narrow column. */
export function typeName(type) {
  const [kind, name] = type.split(";")[0].trim().split("/");
  if (kind === "text") return name === "plain" ? "text" : name;
  return { "octet-stream": "bytes", "svg+xml": "svg", "x-www-form-urlencoded": "form" }[name] ?? name ?? kind;
}
