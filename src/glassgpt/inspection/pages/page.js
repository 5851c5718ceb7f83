"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main");
const tip = document.getElementById("tip");
const shown = text =>
  text.replaceAll(" ", "\u00b7").replaceAll("\n", "\u23ce").replaceAll("\t", "\u21e5").replaceAll("\r", "\u240d") ||
  "(nothing)";
const percent = p => (p >= 0.1 ? (100 * p).toFixed(0) + " %" : (100 * p).toPrecision(2) + " %");
const whole = n => n.toLocaleString("en");
// Of what a page carries as one byte each, and of the two colours that a canvas paints with.
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const ink = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const BLUE = ink("--blue");
const RED = ink("--red");

function element(kind, text, parent, attributes = {}) {
  const made = document.createElement(kind);
  if (text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (parent) parent.append(made);
  return made;
}

function section(id, title, ...says) {
  const made = element("section", null, main, { id });
  element("h2", title, made);
  for (const line of says) element("p", line, made);
  element("a", title, document.getElementById("contents"), { href: "#" + id });
  return made;
}

// Rows of words; a cell is its text, or [its text, its class].
function table(parent, head, rows) {
  const made = element("table", null, parent);
  const line = (into, kind, cells) => {
    const tr = element("tr", null, into);
    cells.forEach((cell, i) => {
      const [text, name] = Array.isArray(cell) ? cell : [cell, ""];
      element(i ? kind : "th", text, tr, name ? { class: name } : {});
    });
    return tr;
  };
  if (head) line(element("thead", null, made), "th", head);
  const body = element("tbody", null, made);
  rows.forEach(row => line(body, "td", row));
  return made;
}

function showTip(text, x, y) {
  tip.textContent = text;
  tip.style.display = text ? "block" : "none";
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(0, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + "px";
}

const hideTip = () => {
  tip.style.display = "none";
};

// `text`: what is shown where one points, or a function that says it.
function hover(node, text) {
  const show = event => {
    const box = node.getBoundingClientRect();
    showTip(typeof text === "function" ? text(event) : text, event.clientX ?? box.left, event.clientY ?? box.bottom);
  };
  for (const begin of ["mousemove", "focus"]) node.addEventListener(begin, show);
  for (const end of ["mouseleave", "blur"]) node.addEventListener(end, hideTip);
}

// On many systems nothing else shows that a box holds more than it shows.
function sayWhatScrolls() {
  for (const box of document.querySelectorAll(".scroll, .wide, .texts pre")) {
    box.removeAttribute("data-more");
    const where = [
      box.scrollWidth > box.clientWidth + 1 ? "at the right" : "",
      box.scrollHeight > box.clientHeight + 1 ? "below" : "",
    ]
      .filter(Boolean)
      .join(" and ");
    if (where) box.setAttribute("data-more", `scroll, there is more ${where}`);
  }
}

for (const change of ["load", "resize"]) addEventListener(change, sayWhatScrolls);

// Tokens one after the other, each the redder the less it was expected, and where one points what was expected instead.
function bySurprise(parent, tokens) {
  const box = element("div", null, parent, { class: "prompt" });
  for (const t of tokens) {
    const surprise = t.probability == null ? 0 : -Math.log(Math.max(t.probability, 1e-30));
    const span = element("span", null, box, { tabindex: 0 });
    for (const line of t.text.split(/(?<=\n)/)) {
      span.append(shown(line));
      if (line.endsWith("\n")) element("br", null, span);
    } // an indentation begins its line
    span.style.background = `rgba(${RED}, ${0.65 * Math.min(1, surprise / 10)})`;
    hover(
      span,
      `${shown(t.text)} (id ${t.id}): ` +
        (/<[0-9a-f]{2}>/.test(t.text) ? "bytes of a part of a character; " : "") +
        (t.probability == null
          ? "the first, out of nothing"
          : `${percent(t.probability)}, ${surprise.toFixed(2)} nats, rank ${t.rank}\ninstead:\n` +
            t.alternatives.map(([text, p]) => `  ${percent(p).padStart(7)}  ${shown(text)}`).join("\n")),
    );
  }
}

const expected = next => next.map(([text, p]) => `[${shown(text)}] ${percent(p)}`).join("  ");
