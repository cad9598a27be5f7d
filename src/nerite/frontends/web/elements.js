// Makes elements. Text is always text: nothing on this page ever parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** `element("p", { className: "hint", onclick: run }, "text", child)` */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** One of the symbols of index.html. */
export function icon(name) {
  const use = drawn("use", { href: `#icon-${name}` });
  return drawn("svg", { class: "icon", "aria-hidden": "true" }, use);
}

export const byId = (id) => document.getElementById(id);
