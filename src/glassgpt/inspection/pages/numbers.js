// A histogram, under its name
function bars(parent, name, h) {
  const one = element("div", null, parent);
  const title = element("span", null, one);
  name.split(/(?<=\.)/).forEach(word => {
    title.append(word);
    element("wbr", null, title);
  });
  const canvas = element("canvas", null, one, { width: 2 * h.counts.length, height: 44 });
  const picture = canvas.getContext("2d");
  const most = Math.max(...h.counts);
  picture.fillStyle = `rgb(${BLUE})`;
  h.counts.forEach((n, i) => {
    const tall = n ? Math.max(1, (44 * n) / most) : 0;
    picture.fillRect(2 * i, 44 - tall, 1.7, tall);
  });
  const ends = element("div", null, one, { class: "ends" });
  for (const end of [h.least, h.most]) element("span", number(end), ends);
  element("span", `mean ${number(h.mean)} \u00b1 ${number(h.std)}`, one, { class: "mean" });
  hover(canvas, `${name} (${h.shape.join(" x ")})`);
}

function drawGradients() {
  const of = data.gradients_of;
  const s = section(
    "gradients",
    "Gradients",
    `How long the gradient of the loss is, by layer: where all weights would learn most, if they did. ${
      !of
        ? "Of one token there is no loss, and no gradient: a longer --prompt shows it."
        : of.what === "contexts"
          ? `Of the loss on ${of.targets.toLocaleString("en")} tokens of the text that the run was validated with.`
          : "Of the loss on this prompt; another text has another gradient."
    }`,
  );
  if (!of) return;
  const entries = Object.entries(data.gradients);
  const most = Math.max(...entries.map(e => e[1]), 1e-12);
  const table = element("table", null, s);
  entries.forEach(([name, v]) => {
    const line = element("tr", null, table);
    element("th", name, line);
    element("td", number(v), line, { class: "n" });
    const td = element("td", "", line);
    const bar = element("div", null, td);
    bar.style.cssText = `width: calc(${v / most} * min(24rem, 50vw)); height: 12px; background: rgb(${BLUE})`;
  });
}

function drawHistograms() {
  for (const [id, title, says, all] of [
    [
      "activations",
      "Activations",
      "How the values are spread that this prompt makes: below each the least and the greatest, and mean " +
        "\u00b1 standard deviation. The names are those that capture() takes: block.0 is layer 0.",
      data.activations,
    ],
    ["weights", "Weights", "How the numbers in the model's matrices are spread, in the same way.", data.weights],
  ]) {
    const s = section(id, title, says);
    const box = element("div", null, s, { class: "scroll" });
    const grid = element("div", null, box, { class: "bars" });
    for (const [name, h] of Object.entries(all)) bars(grid, name, h);
  }
}

function drawEmbeddings() {
  const s = section(
    "embeddings",
    "Embeddings",
    "Tokens of the prompt, and those that are read as something similar (cosine).",
  );
  const box = element("div", null, s, { class: "scroll" });
  const table = element("table", null, box);
  data.neighbours.forEach(({ text, near }) => {
    const line = element("tr", null, table);
    element("th", shown(text), line);
    near.forEach(([other, cosine]) => element("td", `${shown(other)} ${cosine.toFixed(2)}`, line));
  });
  if (data.positions) {
    scale(
      captioned(
        s,
        data.positions.step === 1
          ? "The embeddings of positions, each with each (cosine; red: opposite)."
          : `The embeddings of every ${data.positions.step}th position, each with each (cosine; red: opposite).`,
      ),
      bothWays,
      ["-1", "0", "1"],
    );
    const n = data.positions.size;
    const cosines = bytes(data.positions.cosines);
    const at = (i, j) => cosines[i * n + j] / 127.5 - 1;
    heatmap(
      s,
      n,
      n,
      (i, j) => signed(at(i, j), 1),
      (i, j) => `positions ${i * data.positions.step} and ${j * data.positions.step}: ${at(i, j).toFixed(2)}`,
      320,
      320,
    ).style.border = "1px solid var(--line)";
  } else element("p", "This model has no embeddings of positions: queries and keys are turned by them.", s);
}
