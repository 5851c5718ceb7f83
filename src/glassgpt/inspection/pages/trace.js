const number = x =>
  x == null
    ? "?"
    : Math.abs(x) >= 1e6 || (x && Math.abs(x) < 0.001)
      ? x.toExponential(1)
      : x.toFixed(Number.isInteger(x) || Math.abs(x) >= 1000 ? 0 : 3);
const rgb = [BLUE, RED].map(colour => colour.split(","));

// A byte is a value: 128 is 0, 255 the largest there is in this picture, 1 its opposite.
function picture(parent, value) {
  const [rows, columns] = value.grid;
  const canvas = element("canvas", null, parent);
  const cells = bytes(value.picture);
  canvas.width = columns;
  canvas.height = rows;
  const across = Math.max(1, Math.min(12, Math.floor(200 / columns)));
  const down = Math.max(2, Math.min(12, Math.floor(48 / rows)));
  canvas.style.width = columns * across + "px";
  canvas.style.height = rows * down + "px";
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  cells.forEach((byte, i) => {
    const v = (byte - 128) / 127;
    image.data.set([...rgb[+(v < 0)], 255 * Math.abs(v)], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

// Of several runs of a line: by what it was called, or where that was the same how often.
const caller = run => run.call || "in " + (run.module.split(".").at(-1) || "the model");

function which(run, runs) {
  const same = runs.filter(one => caller(one) === caller(run));
  return [
    same.length < runs.length ? caller(run) : "",
    same.length > 1 ? `${same.indexOf(run) + 1} of ${same.length}` : "",
  ]
    .filter(Boolean)
    .join(", ");
}

document.getElementById("about").textContent = data.about;
let layer = 0;
const cells = [];

function drawTensors() {
  for (const [cell, runs] of cells) {
    cell.replaceChildren();
    const now = runs.filter(run => run.block === layer || run.block === null);
    for (const run of now)
      for (const value of run.values) {
        const line = element("div", null, cell, { class: "value" });
        picture(line, value);
        const words = element("div", null, line);
        if (now.length > 1) hover(element("small", which(run, now), words), run.module);
        element("b", `${value.name} (${value.shape.join(", ")})`, words);
        for (const says of [
          `mean ${number(value.mean)} \u00b1 ${number(value.std)}`,
          `range ${number(value.least)} to ${number(value.most)}`,
        ])
          element("small", says, words);
      }
  }
}

function drawFiles() {
  for (const file of data.files) {
    element("h2", file.name, main, { id: file.name });
    element("a", file.name, document.getElementById("contents"), { href: "#" + file.name });
    if (file.about) element("p", file.about, main, { class: "about" });
    const lines = element("table", null, main);
    file.lines.forEach((line, i) => {
      const ran = line.runs.length > 0;
      const row = element("tr", null, lines, ran ? { class: "ran" } : {});
      element("td", String(i + 1), row, { class: "number" });
      const code = element("td", line.source, row, { class: "code", colspan: ran ? 1 : 2 });
      const inward = line.source.search(/\S|$/) + 4;
      code.style.paddingLeft = `calc(.6rem + ${inward}ch)`;
      code.style.textIndent = `-${inward}ch`; // what does not fit goes on below it
      if (ran) cells.push([element("td", null, row, { class: "made" }), line.runs]);
    });
  }
}

function drawChoice() {
  const choose = document.getElementById("choose");
  if (data.blocks > 1) {
    choose.append("block ");
    const select = element("select", null, choose);
    for (let i = 0; i < data.blocks; i++) element("option", String(i), select);
    select.addEventListener("change", () => {
      layer = +select.value;
      drawTensors();
    });
  }
}

drawFiles();
drawChoice();
drawTensors();
document.body.dataset.drawn = "yes";
