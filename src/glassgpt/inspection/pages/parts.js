const named = activation => activation.replace(/^embedding[.](.*)/, "$1 embedding");

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
      ["part", "nats a token"],
      embedded.map(([name]) => named(name)),
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
      "way: the residual stream, taken from the other text at one position after one layer.",
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
        ["part", "carries"],
        embedded.map(([name]) => named(name)),
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
