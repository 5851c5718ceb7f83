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
  const under =
    ((element("i", null, made).style.background = `linear-gradient(to right, ${colours})`), element("div", null, made));
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

function drawAbout() {
  const m = data.model;
  element(
    "span",
    `${m.architecture}, ${whole(m.parameters)} parameters: ${L} layer${L > 1 ? "s" : ""} of ${H} ` +
      `head${H > 1 ? "s" : ""}, ${m.n_embd} wide; ${whole(m.vocab_size)} tokens (${m.tokenizer}), ` +
      `context ${m.context_length}. ` +
      (m.given > m.shown ? `The last ${m.shown} of the prompt's ${m.given} tokens. ` : "") +
      ("All numbers are the model's own, to float32 rounding: nothing is folded, centred or rescaled. " +
        "(Only the weights of attention and the cosines of positions are rounded, to 256 steps: a " +
        "percentage there may be off in its second digit.)"),
    document.getElementById("about"),
  );
}

// The prompt
function drawPrompt() {
  const s = section(
    "prompt",
    "The prompt, token by token",
    "The redder a token, the less the model expected it. Point at one for what it expected instead. " +
      "Here and below, \u00b7 is a space, \u23ce a line break, and <e2> a byte of a character that " +
      "several tokens make up.",
  );
  scale(s, upward(RED, 0.65), ["100 %", percent(Math.exp(-5)), "\u2264 " + percent(Math.exp(-10))]);
  bySurprise(s, data.tokens);
  element(
    "p",
    (data.ablation
      ? `Mean surprise ${data.ablation.loss.toFixed(3)} nats a token. `
      : "One token comes out of nothing, and there is no loss: what is lost without a part takes a " +
        "longer prompt. ") + `After the prompt it expects: ${expected(data.next)}`,
    s,
    { class: "small" },
  );
}

// Attention
function drawAttention() {
  const weights = bytes(data.attention);
  const at = (l, h, i, j) => (weights[((l * H + h) * T + i) * T + j] / 255) ** 2;
  const s = section(
    "attention",
    "Attention",
    "A picture for every layer (down) and head (across): each row is a position, dark where it looks, " +
      "the first token at the left (by the root of the weight: faint looks show too). Click one to read " +
      "it.",
  );
  scale(
    s,
    upward(BLUE),
    [0, 0.25, 0.5, 0.75, 1].map(root => (100 * root ** 2).toFixed(0) + " %"),
  );
  const beside = element("div", null, s, { class: "beside" });
  const box = element("div", null, beside, { class: "scroll" });
  box.style.maxHeight = "none";
  const grid = element("div", null, box, { class: "grid" });
  const side = Math.max(62, Math.min(130, Math.floor(400 / Math.max(L, H))));
  grid.style.gridTemplateColumns = `2.2rem repeat(${H}, ${side}px)`;
  element("span", "", grid);
  for (let h = 0; h < H; h++) element("span", "head " + h, grid, { class: "label" });
  const large = element("div", null, beside, { class: "wide", style: "flex: 1 1 30rem" });
  const most = Math.max(...words.map(word => word.length));
  const open = (l, h, small) => {
    document.querySelectorAll(".chosen").forEach(c => c.classList.remove("chosen"));
    small.classList.add("chosen");
    large.replaceChildren();
    const margin = Math.min(128, 14 + 8 * most);
    const cell = Math.max(3, Math.min(24, Math.floor(Math.min(560, large.clientWidth - margin - 4) / T)));
    const size = cell * T;
    const line = Math.max(11, Math.min(16, cell));
    const every = Math.ceil(line / cell);
    const from_edge = (cell - line) / 2;
    element(
      "p",
      `layer ${l}, head ${h}: from the tokens at the left to those above` +
        (every > 1 ? `, every ${every}${every === 2 ? "nd" : every === 3 ? "rd" : "th"} of which is named` : "") +
        ". Point at one, in the picture or in the text below it, and the text shows where it looks.",
      large,
    );
    const box = element("div", null, large, { class: "axes" });
    const text = element("div", null, large, { class: "prompt" });
    box.style.width = size + "px";
    box.style.margin = `${margin}px 0 1rem ${margin}px`;
    text.style.maxWidth = Math.max(440, size + 100) + "px";
    for (let i = 0; i < T; i += every) {
      const upright = words[i].length === 1;
      const left = element("span", words[i], box, { class: "left" });
      const top = element("span", words[i], box, { class: upright ? "top upright" : "top" });
      for (const label of [left, top]) {
        label.style.fontSize = Math.min(13, line - 1) + "px";
        label.style.lineHeight = line + "px";
      }
      left.style.top = i * cell + from_edge + "px";
      top.style.left = i * cell + (upright ? cell / 2 : from_edge) + "px";
    }
    const spans = words.map(word => element("span", word, text));
    const from = i =>
      spans.forEach((span, j) => {
        span.style.background = j > i ? "" : `rgba(${BLUE}, ${0.75 * Math.sqrt(at(l, h, i, j))})`;
        span.style.outline = j === i ? `2px solid rgb(${RED})` : "";
      });
    spans.forEach((span, i) => span.addEventListener("mouseenter", () => from(i)));
    from(T - 1);
    heatmap(
      box,
      T,
      T,
      (i, j) => [BLUE, Math.sqrt(at(l, h, i, j))],
      (i, j) => {
        from(i);
        return j > i ? "" : `from ${words[i]} (${i}) to ${words[j]} (${j}): ${(100 * at(l, h, i, j)).toFixed(1)} %`;
      },
      size,
      size,
    ).style.outline = "1px solid var(--line)";
  };
  for (let l = 0; l < L; l++) {
    element("span", "" + l, grid, { class: "label" });
    for (let h = 0; h < H; h++) {
      const small = heatmap(
        grid,
        T,
        T,
        (i, j) => [BLUE, Math.sqrt(at(l, h, i, j))],
        () => `layer ${l}, head ${h}`,
      );
      small.addEventListener("click", () => {
        open(l, h, small);
        large.scrollIntoView({ block: "nearest" });
      });
    }
  }
  open(0, 0, grid.querySelector("canvas"));
}

// Heads: habits, and what is lost without them
function drawHeads() {
  const s = section(
    "heads",
    "What the heads do",
    "Mean weight on the token before, on the first, on the same token earlier, and on what followed it " +
      "(induction), on random tokens that come twice" +
      (data.ablation
        ? "; and by how many nats a token the prompt's loss grows without the head (red, with a minus: it falls)."
        : "."),
  );
  const beside = element("div", null, s, { class: "beside" });
  const tables = Object.entries(data.heads ?? {}).map(([name, rows]) => [
    name.replaceAll("_", " "),
    rows,
    v => [v.toFixed(2), [BLUE, 0.8 * v]],
  ]);
  if (data.ablation) {
    const lost = largest(data.ablation.heads);
    tables.push(["loss without it", data.ablation.heads, v => [plus(v), faded(v, lost)]]);
  }
  for (const [name, rows, cell] of tables) {
    const one = element("div", null, beside, { class: "wide" });
    element("p", name, one, { class: "small" });
    cells(one, ["layer \\ head", ...upTo(H)], upTo(L), rows, (v, l, h) => [
      ...cell(v),
      `layer ${l}, head ${h}: ${number(v)}`,
    ]);
  }
  if (!data.heads) element("p", "The context is too short for random tokens that come twice.", s);
}

// Without a layer, and which parts matter most
function drawAblation() {
  if (!data.ablation) return;
  const lost = data.ablation;
  const embedded = Object.entries(lost.embedding);
  const s = section(
    "ablation",
    "Without a part",
    `The prompt's loss is ${number(lost.loss)} nats a token; without one attention or one MLP it grows ` +
      "by so " +
      "much" +
      (embedded.length
        ? ", and without a part of the embedding: what each token says by itself, or with those before it in " +
          "groups of 2 (2-gram) and more"
        : "") +
      ". " +
      "Red, with a minus: it falls, so this prompt is read better without that part. Then, of all of " +
      "them and the heads, the parts that matter most and those that are in the way.",
  );
  const rows = [lost.attention, lost.mlp];
  const most = largest([...rows, embedded.map(([, v]) => v)]);
  const beside = element("div", null, s, { class: "beside" });
  cells(
    element("div", null, beside, { class: "wide" }),
    ["layer", "attention", "MLP"],
    upTo(L),
    upTo(L).map(l => rows.map(row => row[l])),
    v => [plus(v), faded(v, most)],
  );
  if (embedded.length)
    cells(
      element("div", null, beside, { class: "wide" }),
      ["embedding", "nats a token"],
      embedded.map(([name]) => name.replace("embedding.", "")),
      embedded.map(([, v]) => [v]),
      v => [plus(v), faded(v, most)],
    );
  const shows = v => Math.abs(v) >= lost.least; // less is +0.000
  for (const [title, parts] of [
    ["worst without", lost.ranked.filter(([v]) => v > 0 && shows(v)).slice(0, 8)],
    [
      "better without",
      lost.ranked
        .filter(([v]) => v < 0 && shows(v))
        .slice(-8)
        .reverse(),
    ],
  ]) {
    const box = element("div", null, beside, { class: "wide" });
    cells(
      box,
      [title, "nats a token"],
      parts.map(([, name]) => name),
      parts.map(([v]) => [v]),
      v => [plus(v), faded(v, most)],
    );
    if (!parts.length) element("p", "no part", box, { class: "small" });
  }
}

// Minimal pairs
function drawPairs() {
  if (!data.pairs.length) return;
  const s = section(
    "pairs",
    "Minimal pairs",
    "Two texts that differ in what decides the next token. Each part in turn is taken from the other " +
      "text, in both: at 100 % this part alone carries all of the difference that the texts make to the " +
      "answers, at 0 % it does not know it (red: less than none). Then, where the difference is on its " +
      "way: the residual stream, taken from the other text at one position after one block.",
  );
  for (const pair of data.pairs) {
    const said = element("table", null, s, { style: "margin-top: 1.2rem" });
    const top = element("tr", null, said);
    element("th", "after", top);
    pair.answers.forEach(a => element("th", shown(a), top));
    pair.texts.forEach((text, r) => {
      const line = element("tr", null, said);
      const words = element("td", null, line);
      text.forEach((t, i) => {
        const span = element("span", shown(t), words);
        if (pair.differs[i]) span.style.background = `rgba(${RED}, .3)`;
      });
      pair.probabilities[r].forEach((p, c) => {
        const td = element("td", percent(p), line, { class: "n" });
        if (c === r) td.style.background = `rgba(${BLUE}, ${0.75 * p})`;
      });
    });
    element("p", pair.about, s, { class: "small" });
    if (!pair.known) continue;
    const cell = v => [(100 * v).toFixed(0).replace(/^-0$/, "0") + " %", faded(v, 1)];
    const beside = element("div", null, s, { class: "beside" });
    cells(
      element("div", null, beside, { class: "wide" }),
      ["layer", ...upTo(H, "head "), "attention", "MLP"],
      upTo(L),
      upTo(L).map(l => [...pair.heads[l], pair.attention[l], pair.mlp[l]]),
      cell,
    );
    const embedded = Object.entries(pair.embedding);
    if (embedded.length)
      cells(
        element("div", null, beside, { class: "wide" }),
        ["embedding", "carries"],
        embedded.map(([name]) => name.replace("embedding.", "")),
        embedded.map(([, v]) => [v]),
        cell,
      );
    if (pair.stream) {
      const both = pair.texts[0].map((t, i) => shown(t) + (pair.differs[i] ? " / " + shown(pair.texts[1][i]) : ""));
      cells(
        element("div", null, beside, { class: "wide" }),
        ["residual stream after", ...both],
        pair.stages,
        pair.stream,
        cell,
      );
    } else
      element(
        "p",
        "These texts are too long to be followed position by position: that is done up to " +
          `${pair.most_positions} tokens.`,
        beside,
        { class: "small" },
      );
  }
}

// The logit lens
function drawLens() {
  const s = section(
    "lens",
    "What each layer would say",
    "The logit lens: the residual stream after each block, through the last norm and the output " +
      "matrix, as if nothing came after. Darker: surer. Point at a word for how likely the token was " +
      "that came.",
  );
  scale(s, upward(BLUE, 0.75), ["0 %", "50 %", "100 %"]);
  cells(
    element("div", null, s, { class: "scroll" }),
    ["after", ...words],
    data.stages,
    data.lens,
    ([text, p, came], r, c) => [
      shown(text),
      [BLUE, 0.75 * p],
      `${data.stages[r]}, after ${words[c]}: ${shown(text)} ${percent(p)}` +
        (came == null ? "" : `\n${words[c + 1]} came: ${percent(came)}`),
    ],
  );
}

// The residual stream
function drawStream() {
  const s = section(
    "stream",
    "The residual stream",
    "Its length after each block, at each token; its direction, beside that of the block before and " +
      "that in which it ends (cosine; red: away from it); then the length of what each attention and MLP " +
      "adds" +
      (data.parts.includes("embedding.token")
        ? "; and each part of the embedding: 2-gram is what the group of two tokens adds that ends there, " +
          "3-gram that of three."
        : "."),
  );
  const shade = (title, names, rows, most) => {
    const beyond = rows.flat().some(v => Math.abs(v) > 1.001 * most) ? " or more" : "";
    const caption = captioned(s, title);
    if (rows.flat().some(v => v < 0)) scale(caption, bothWays, [tick(-most), "0", tick(most) + beyond]);
    else scale(caption, upward(BLUE), ["0", tick(most / 2), tick(most) + beyond]);
    cells(element("div", null, s, { class: "scroll narrow" }), ["", ...words], names, rows, (v, r, c) => [
      "",
      signed(v, most),
      `${names[r]}, ${words[c]}: ${number(v)}`,
    ]);
  };
  // The first token's is often far beyond all others.
  const longest = rows => largest(T > 1 ? rows.map(row => row.slice(1)) : rows);
  shade("length", data.stages, data.norms, longest(data.norms));
  shade("direction: cosine with the stage before", data.stages.slice(1), data.cosine_with_before, 1);
  shade("direction: cosine with the end, what the last block leaves", data.stages, data.cosine_with_end, 1);
  shade("length of what is added", data.parts, data.part_norms, longest(data.part_norms));
  if (data.contributions) {
    const names = Object.keys(data.contributions);
    const rows = Object.values(data.contributions);
    shade(
      "what each part adds directly to the logit of the token that came next (at the end: of the likeliest)",
      names,
      rows,
      largest(rows),
    );
  }
}

// Neurons
function drawNeurons() {
  const next = shown(data.next[0][0]);
  const sum = data.neurons[0].adds != null;
  const s = section(
    "neurons",
    "Neurons",
    "Of each layer those that, at the prompt's end, " +
      `${sum ? `write most for [${next}], which the model expects next` : "are furthest from 0"}, the ` +
      "strongest first; the contexts that excite each of them most (its key), out of " +
      (data.contexts
        ? whole(data.contexts) + " tokens of the run's validation text, in pieces spread evenly over it"
        : "the prompt") +
      "; " +
      "and the tokens that it writes for (its value, unembedded).",
    ...(data.signs ? [data.signs] : []),
  );
  const box = element("div", null, s, { class: "scroll" });
  const table = element("table", null, box);
  const top = element("tr", null, table);
  const most = Math.max(1e-12, ...data.neurons.map(n => Math.abs(n.adds ?? n.activation)));
  for (const name of [
    "layer",
    "neuron",
    "activation",
    ...(sum ? ["adds to " + next] : []),
    "most excited by",
    "writes for",
  ])
    element("th", name, top);
  data.neurons.forEach(n => {
    const line = element("tr", null, table);
    line.style.borderTop = "1px solid var(--line)";
    line.style.verticalAlign = "top";
    element("th", "" + n.layer, line);
    element("td", "" + n.neuron, line);
    element("td", plus(n.activation), line, { class: "n" });
    if (sum) {
      const td = element("td", plus(n.adds), line, { class: "n" });
      const [rgb, share] = faded(n.adds, most);
      td.style.background = `rgba(${rgb}, ${share})`;
    }
    const keys = element("td", null, line);
    n.keys.forEach(k => {
      const key = element("div", null, keys);
      element(
        "span",
        plus(k.activation).padStart(7) + "  " + (k.before && shown(k.before)).padStart(24),
        key,
      ).style.color = "var(--soft)";
      element("b", shown(k.text), key).style.background = `rgba(${BLUE}, .2)`;
    });
    if (!n.keys.length) element("span", "nothing here", keys).style.color = "var(--soft)";
    const values = element("td", (n.against ? "against: " : "") + n.values.map(shown).join("  "), line);
    values.style.whiteSpace = "normal";
  });
}

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
    `How long the gradient of the loss is, by layer: where learning would happen. ${
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
        "\u00b1 standard deviation.",
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

for (const draw of [
  drawAbout,
  drawPrompt,
  drawAttention,
  drawHeads,
  drawAblation,
  drawPairs,
  drawLens,
  drawStream,
  drawNeurons,
  drawGradients,
  drawHistograms,
  drawEmbeddings,
]) {
  draw();
}

document.body.dataset.drawn = "yes";
