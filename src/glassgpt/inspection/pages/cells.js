// What every part of the inspect page draws with: pictures and tables of coloured cells.
const T = data.tokens.length;
const L = data.model.n_layer;
const H = data.model.n_head;
const number = x =>
  x == null ? "" : x.toFixed(Math.abs(x) >= 1000 ? 0 : Math.abs(x) >= 10 ? 1 : 3).replace(/^-(0\.0*)$/, "$1");

// A picture of rows x columns cells; `color(row, column)` gives [colour, share], `says(row, column)` its words.
function heatmap(parent, rows, columns, color, says, width, height) {
  const canvas = element("canvas", null, parent, { width: columns, height: rows });
  if (width) {
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
  }
  const picture = canvas.getContext("2d");
  const image = picture.createImageData(columns, rows);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const [rgb, share] = color(r, c);
      const at = 4 * (r * columns + c);
      rgb.split(",").forEach((value, i) => {
        image.data[at + i] = +value;
      });
      image.data[at + 3] = 255 * Math.max(0, Math.min(1, share));
    }
  picture.putImageData(image, 0, 0);
  if (says)
    hover(canvas, event => {
      const box = canvas.getBoundingClientRect();
      const r = Math.min(rows - 1, Math.max(0, Math.floor((rows * (event.clientY - box.top)) / box.height)));
      const c = Math.min(columns - 1, Math.max(0, Math.floor((columns * (event.clientX - box.left)) / box.width)));
      return says(r, c);
    });
  return canvas;
}

// What the colours stand for: a bar from one end to the other, and numbers at equal distances below it.
function scale(parent, colours, ticks) {
  const made = element("div", null, parent, { class: "scale" });
  element("i", null, made).style.background = `linear-gradient(to right, ${colours})`;
  const under = element("div", null, made);
  ticks.forEach((tick, i) => {
    const at = (100 * i) / (ticks.length - 1);
    element("span", tick, under).style.cssText = `left: ${at}%; transform: translateX(-${at}%)`;
  });
}

const tick = x => String(+x.toPrecision(3));
const upward = (rgb, share = 1) => `rgba(${rgb}, 0), rgba(${rgb}, ${share})`;
const bothWays = `rgb(${RED}), rgba(${RED}, 0) 50%, rgba(${BLUE}, 0) 50%, rgb(${BLUE})`;
const captioned = (parent, text) => {
  const made = element("div", null, parent, { class: "caption" });
  if (text) element("p", text, made, { class: "small" });
  return made;
};
const signed = (value, most) => [value < 0 ? RED : BLUE, most ? Math.abs(value) / most : 0];
const plus = value => (value > 0 ? "+" : "") + number(value);
const faded = (value, most) => [value < 0 ? RED : BLUE, most ? 0.75 * Math.min(1, Math.abs(value) / most) : 0];
const largest = rows =>
  Math.max(
    1e-12,
    ...rows
      .flat()
      .filter(x => x != null)
      .map(Math.abs),
  );

// Rows of coloured cells under the words of `head`; `cell(value, row, column)` gives its text, its colour as
// [colour, share] and what is said where one points.
function cells(parent, head, names, rows, cell) {
  const [first, ...rest] = head;
  const made = table(parent, [first, ...rest.map(word => [word, "n"])], []);
  names.forEach((name, r) => {
    const line = element("tr", null, made.tBodies[0]);
    element("th", name, line);
    rows[r].forEach((value, c) => {
      const [text, [rgb, share], says] = cell(value, r, c);
      const td = element("td", text, line, { class: "n" });
      td.style.background = `rgba(${rgb}, ${share})`;
      if (says) hover(td, says);
    });
  });
  return made;
}

const upTo = (count, word = "") => Array.from({ length: count }, (_, i) => word + i);
const words = data.tokens.map(t => shown(t.text));
