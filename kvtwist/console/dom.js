// Makes elements. Text only ever becomes text: there is no innerHTML, so a value with HTML in it is harmless.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element: h("button", { class: "quiet", onclick: f, "aria-label": "Close" }, child, "text").
 * A property that is a function is a listener; true is an empty attribute; false, null and undefined are none.
 */
export function h(tag, properties, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** An element of an SVG image. */
export function svg(tag, properties, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  search: "M10.5 10.5 14 14M11.5 7a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0Z",
  plus: "M8 3v10M3 8h10",
  chevron: "m6 4 4 4-4 4",
  pencil: "m10.5 3.5 2 2-7.3 7.3-2.7.7.7-2.7 7.3-7.300Z",
  trash: "M3 4.500h10M6 4.500V3h4v1.500M4.5 4.500l.5 8.500h6l.5-8.500M7 7v3.500M9 7v3.5",
  download: "M8 2.500v7.500M4.8 7 8 10.2 11.2 7M3 13h10",
  copy: "M5.5 5.500V3h7.500v7.500h-2.500M3 5.500h7.500V13H3z",
  moon: "M13 9.500A5.5 5.5 0 0 1 6.5 3a5.3 5.3 0 1 0 6.5 6.500Z",
  help: "M6 6.200a2 2 0 1 1 2.8 1.800c-.5.2-.8.6-.8 1.100v.4M8 11.800v.1M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  close: "m4 4 8 8M12 4l-8 8",
  back: "M10 3 5 8l5 5",
  pause: "M5.5 3.500v9M10.5 3.500v9",
  play: "M5 3.500v9l7-4.5-7-4.500Z",
  browse: "M2.5 4h4M2.5 8h4M2.5 12h4M9.5 4h4M9.5 8h4M9.5 12h4",
  changes: "M2 8h3l2-5 2.5 10L11.5 8H14",
  staged: "M3 4.500h10M3 8h10M3 11.500h5M11 11.500l1.3 1.300L15 10",
  dashboard: "M2.5 13.500v-5M6.2 13.500V5M9.8 13.500V8M13.5 13.500V2.5",
  more: "M3.5 8h.1M8 8h.1M12.5 8h.1",
};

/** One of the icons above; decoration, so it has no name of its own. */
export function icon(name) {
  return svg("svg", { class: `icon ${name}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button with an icon, and a text that narrow screens may hide. */
export function button(iconName, text, properties, showsText = true) {
  const named = showsText ? {} : { "aria-label": text, title: text };
  const known = { type: "button", class: showsText ? "button" : "button only-icon", ...named, ...properties };
  return h("button", known, iconName && icon(iconName), showsText && h("span", null, text));
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Say something for a few seconds. */
export function toast(text, isError = false) {
  const shown = h("p", { class: isError ? "toast error" : "toast" }, text);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), isError ? 8000 : 4000);
}

/** Call a function once before the next frame, however often that is asked for. */
export function inNextFrame(callback) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      callback();
    });
  };
}

/** Copy a text. Where the page may not (plain HTTP from another host), the selection is copied as people used to. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("The browser does not let this page copy", true);
  }
}
