document.title = "GlassGPT: " + data.name;
document.querySelector("h1").textContent = data.name;
const labelled = data.task === "labels";
const nats = labelled ? "nats a text" : "nats a token";
document.getElementById("about").textContent =
  `${data.folder}: preset ${data.preset}, task ${data.task}. ${data.standing}`;

// Figures
function drawFigures() {
  const s = section("figures", "Figures");
  const cards = element("div", null, s, { class: "cards even" });
  for (const [label, words] of data.rows) {
    const card = element("div", null, cards);
    element("span", label, card);
    element("b", words, card);
  }
  inEvenRows(cards, 150);
  if (data.unknown.length)
    element("p", `Not known, since the run is not complete: ${data.unknown.join(", ")}.`, s, { class: "note" });
  if (!data.validations) element("p", "There was no validation yet.", s, { class: "note" });
}

// Curves
function drawCurves() {
  const s = section(
    "curves",
    "Curves",
    "Point at a curve for its values, or go along it with the arrow keys." +
      (data.points > data.curves.step.length
        ? ` Of ${whole(data.points)} logged steps ${whole(data.curves.step.length)} are drawn: of neighbours ` +
          "the lowest and the highest loss."
        : ""),
  );
  const c = data.curves;
  const v = data.validation;
  const x = "step";
  const over = values => zip(c.step, values);
  const marks = [
    ...data.faults.first.map(f => ({
      x: f.step,
      color: "rgb(var(--red))",
      says: `${f.skipped ? "skipped" : "fault"}: ${f.fault}`,
    })),
    ...data.changes.map(f => ({ x: f.step, color: "var(--soft)", says: "settings changed" })),
  ];
  const same = c.smoothed.every((mean, i) => Math.abs(mean - c.train_loss[i]) <= 1e-6 * Math.abs(mean)); // few points
  const batches = { name: "train_loss, one batch", color: "var(--pale)", faint: true, points: over(c.train_loss) };
  chart(s, {
    title: "loss",
    x,
    y: nats,
    marks,
    series: [
      ...(same ? [] : [batches]),
      { name: same ? "train_loss" : "train_loss, smoothed", color: "rgb(var(--blue))", points: over(c.smoothed) },
      { name: "val_loss", color: "var(--orange)", dots: true, points: zip(v.step, v.val_loss ?? []) },
    ],
  });
  const small = element("div", null, s, { class: "charts even" });
  const height = 210;
  if (v.accuracy)
    chart(small, {
      title: "accuracy",
      x,
      y: "% right",
      most: 100,
      height,
      series: [{ name: "accuracy", color: "var(--green)", dots: true, points: zip(v.step, v.accuracy, 100) }],
    });
  for (const [title, name, y] of [
    ["learning rate", "learning_rate", "learning_rate"],
    ["length of the gradient", "grad_norm", "grad_norm"],
    ["speed", "tokens_per_second", "tokens/s"],
  ])
    chart(small, { title, x, y, height, marks, series: [{ name, color: "rgb(var(--blue))", points: over(c[name]) }] });
  inEvenRows(small, 340);
  if (data.faults.count) {
    element(
      "p",
      `Steps with a fault: ${whole(data.faults.count)}, of which skipped, so that nothing was changed: ` +
        `${whole(data.faults.skipped)}` +
        (data.faults.count > data.faults.first.length ? `; the first ${data.faults.first.length}:` : ":"),
      s,
      { class: "note" },
    );
    table(
      element("div", null, s, { class: "scroll" }),
      ["step", "", "what was wrong"],
      data.faults.first.map(f => [whole(f.step), f.skipped ? "skipped" : "applied", f.fault]),
    );
  }
  for (const change of data.changes)
    element(
      "p",
      `From step ${whole(change.step)} on: ` +
        change.settings.map(([name, was, now]) => `${name} ${now} (was ${was})`).join(", "),
      s,
    );
  if (v.step.length) {
    element("h3", "Validations", s);
    const names = ["val_loss", "bits_per_byte", "accuracy"].filter(name => v[name]);
    const best = new Set(v.val_loss).size > 1 ? v.step.indexOf(data.figures.best_step) : -1;
    if (data.validations > v.step.length)
      element(
        "p",
        `Of ${whole(data.validations)} validations ${whole(v.step.length)} are shown: of neighbours the ` +
          "lowest and the highest val_loss.",
        s,
      );
    if (best >= 0)
      element("p", `Green: step ${whole(v.step[best])}, the best by val_loss, of equal ones the first.`, s, {
        class: "small",
      });
    table(
      element("div", null, s, { class: "scroll" }),
      ["step", ...names.map(name => [name, "n"])],
      v.step.map((step, i) => [
        whole(step),
        ...names.map(name => [
          v[name][i] == null ? "" : name === "accuracy" ? (100 * v[name][i]).toFixed(1) + " %" : v[name][i].toFixed(4),
          i === best && name !== "accuracy" ? "n best" : "n",
        ]),
      ]),
    );
  }
}

// Labels
function drawLabels() {
  if (!data.confusion) return;
  const { labels, counts, step } = data.confusion;
  const s = section(
    "labels",
    "Which labels it takes for which",
    `At the validation after step ${whole(step)}. A row is the true label, a column what the model says.`,
  );
  const made = table(
    element("div", null, s, { class: "scroll" }),
    ["it is", ...labels.map(label => [label, "n"]), ["found", "n"]],
    counts.map((row, i) => {
      const sum = row.reduce((a, b) => a + b, 0);
      return [labels[i], ...row.map(n => [whole(n), "n"]), [sum ? percent(row[i] / sum) : "", "n"]];
    }),
  );
  made.querySelectorAll("tbody tr").forEach((tr, i) => {
    const sum = Math.max(
      1,
      counts[i].reduce((a, b) => a + b, 0),
    );
    counts[i].forEach((n, j) => {
      tr.children[j + 1].style.background = `rgba(var(${i === j ? "--blue" : "--red"}), ${(0.6 * n) / sum})`;
    });
  });
}

// Samples
function drawSamples() {
  const s = section(
    "samples",
    "Samples over time",
    data.samples.length ? `By the number of steps that it had learned, ${data.wrote}.` : "No sample was written.",
  );
  const texts = element("div", null, s, { class: "texts" });
  for (const sample of data.samples) {
    const one = element("div", null, texts);
    element("h3", sample.step ? `after step ${whole(sample.step)}` : "before training", one);
    element("pre", sample.text, one, { tabindex: 0 });
  }
}

// Inside
function drawInside() {
  if (data.found) {
    const f = data.found;
    const m = f.model;
    const s = section(
      "inside",
      "Inside the model",
      `What inspect found in ${f.checkpoint}. It looked at ${f.whose}, ` +
        `${m.given > m.shown ? `the last ${m.shown} of its ${whole(m.given)}` : m.shown} ` +
        `token${m.given > 1 ? "s" : ""}. All of it ` +
        `(attention, residual stream, weights): ${f.command}`,
    );
    element(
      "p",
      `${m.architecture}, ${whole(m.parameters)} parameters: ${m.n_layer} ` +
        `layer${m.n_layer > 1 ? "s" : ""} of ${m.n_head} head${m.n_head > 1 ? "s" : ""}, ${m.n_embd} wide; ` +
        `${whole(m.vocab_size)} tokens (${m.tokenizer}), context ${whole(m.context_length)}.`,
      s,
    );
    element("h3", "The prompt, by surprise", s);
    element("p", "The redder a token, the less the model expected it. Point at one for what it expected instead.", s);
    bySurprise(s, f.tokens);
    element(
      "p",
      (f.loss === null ? "" : `The prompt's loss is ${f.loss.toFixed(3)} nats a token. `) +
        `After it the model expects: ${expected(f.next)}`,
      s,
      { class: "small" },
    );
    const beside = element("div", null, s, { class: "beside" });
    const part = title => {
      const one = element("div", null, beside);
      element("h3", title, one);
      return one;
    };
    table(
      part("What each layer would say next"),
      ["after", "would say", ["surely", "n"]],
      f.stages.map((stage, i) => [stage, shown(f.lens[i][0]), [percent(f.lens[i][1]), "n"]]),
    );
    for (const [title, parts] of [
      ["What matters most", f.strongest],
      ["Better without", f.opposed],
    ])
      if (parts.length)
        table(
          part(title),
          ["without", ["nats a token more", "n"]],
          parts.map(([v, name]) => [name, [(v > 0 ? "+" : "") + v.toFixed(3), "n"]]),
        );
    if (f.loss !== null && !f.strongest.length)
      element("p", "No part helps here: the loss never grows when one is left out.", part("What matters most"));
    if (f.heads) {
      const names = Object.keys(f.heads);
      const rows = [];
      const values = [];
      for (let l = 0; l < m.n_layer; l++)
        for (let h = 0; h < m.n_head; h++) {
          values.push(names.map(name => f.heads[name][l][h]));
          rows.push([`layer ${l}, head ${h}`, ...values.at(-1).map(v => [v.toFixed(2), "n"])]);
        }
      const one = part("What the heads look at");
      element("p", "Mean weight, on random tokens that come twice.", one, { class: "small" });
      table(
        element("div", null, one, { class: "scroll" }),
        ["", ...names.map(name => [name.replaceAll("_", " "), "n"])],
        rows,
      )
        .querySelectorAll("tbody tr")
        .forEach((tr, i) =>
          values[i].forEach((v, j) => {
            tr.children[j + 1].style.background = `rgba(var(--blue), ${0.7 * Math.min(1, Math.max(0, v))})`;
          }),
        );
    }
  } else if (!labelled)
    section("inside", "Inside the model", `It was not looked into${data.why ? ": " + data.why : "."}`);
}

// Settings and environment
function drawSettings() {
  const all = data.settings.flatMap(one => one.settings);
  const known = all.some(set => set.preset != null);
  const asked = all.filter(set => set.asked);
  const from = all.find(set => set.name === "from").value;
  const or = words => words || "(none)";
  const s = section("settings", "Settings", asked.length ? "What a person asked for:" : "Nobody asked for anything.");
  const described = (made, settings) =>
    made.querySelectorAll("tbody tr").forEach((tr, i) => hover(tr, settings[i].doc.replace(/(.{60}\S*) /g, "$1\n")));
  if (asked.length)
    described(
      table(
        s,
        ["", "in this run", ...(known ? [`in preset ${data.preset}`] : [])],
        asked.map(set => [
          set.name,
          or(set.value),
          ...(known ? [set.preset == null ? "" : set.differs ? or(set.preset) : "the same"] : []),
        ]),
      ),
      asked,
    );
  element("h3", "All settings that play a part", s);
  element(
    "p",
    (asked.length ? "Bold: asked for by a person. " : "") +
      (known
        ? `In brackets: what preset ${data.preset} has, where that is something else; if nobody asked, it ` +
          "followed from the text, the machine or another setting."
        : `This version of GlassGPT knows no preset ${data.preset}, so that it is not known what that had.`) +
      (from ? ` The model, its shape and its tokenizer came from ${from}.` : "") +
      " Point at one for what it means.",
    s,
  );
  const beside = element("div", null, s, { class: "beside" });
  for (const { section: name, settings } of data.settings) {
    const one = element("div", null, beside);
    element("h3", name, one);
    described(
      table(
        one,
        null,
        settings.map(set => [
          set.name,
          [or(set.value) + (set.differs ? `  [${or(set.preset)}]` : ""), set.asked ? "asked" : ""],
        ]),
      ),
      settings,
    );
  }
  const e = section(
    "environment",
    "Environment",
    data.environment.length
      ? "Where the run was completed."
      : "It is written when a run is complete; device, precision and threads stand under settings.",
  );
  table(e, null, data.environment);
}

for (const draw of [drawFigures, drawCurves, drawLabels, drawSamples, drawInside, drawSettings]) {
  draw();
}

document.body.dataset.drawn = "yes";
