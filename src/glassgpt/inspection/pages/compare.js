const runs = data.runs;
const names = runs.map(run => run.name);
const COLORS = ["#2171b5", "#e6550d", "#31a354", "#c51b8a", "#b8860b", "#1ba3a3", "#8c6bb1", "#808080"];
document.getElementById("about").textContent = names.join(", ");

function drawResults() {
  const s = section(
    "results",
    "Results",
    ...(data.rows.some(row => row.best.length) ? ["Bold and green: the best of what compares."] : []),
  );
  for (const note of data.notes) element("p", note, s, { class: "note" });
  for (const run of runs) if (!run.complete) element("p", `${run.name}: ${run.standing}`, s, { class: "note" });
  table(
    element("div", null, s, { class: "scroll" }),
    ["", ...names.map(name => [name, "n"])],
    [["state", ...runs.map(run => [run.state, "n"])]].concat(
      data.rows.map(row => [row.label, ...row.words.map((words, i) => [words, row.best.includes(i) ? "n best" : "n"])]),
    ),
  );
}

function drawSettings() {
  const s = section(
    "settings",
    "Settings that differ",
    data.differ.length
      ? `${data.equal} others are equal.` +
          (data.differ.some(row => row.values.includes(null)) ? " A dash: it plays no part in that run." : "")
      : `None does, of ${data.equal}: whatever is different is not a setting.`,
  );
  if (data.differ.length)
    table(
      element("div", null, s, { class: "wide" }),
      ["", "", ...names],
      data.differ.map(row => [
        row.section,
        row.name,
        ...row.values.map(value => value ?? "\u2013").map(value => value || "(none)"),
      ]),
    );
}

function drawCurves() {
  const s = section(
    "curves",
    "Loss",
    "Lines: train_loss, " +
      `smoothed.${runs.some(run => run.validation.step.length) ? " Dots: val_loss." : ""} Point at a ` +
      "curve for its values, or go along it with the arrow keys.",
  );
  const inBits = runs.some(run => run.bits_per_nat);
  const allInBits = runs.every(run => run.bits_per_nat);
  const place = element("div", null, null);
  const state = { by: "step", unit: data.same_tokens || !allInBits ? "nats" : "bits" };
  const most = Math.max(...runs.flatMap(run => run.curves.seconds.filter(v => v != null)), 0);
  const [per, unit] = most > 7200 ? [3600, "hours"] : most > 300 ? [60, "minutes"] : [1, "seconds"];
  const labelled = runs.filter(run => run.task === "labels").length;
  const nats = labelled === runs.length ? "nats a text" : labelled ? "nats a token, of labels a text" : "nats a token";
  const draw = () => {
    place.replaceChildren();
    const over = (one, values, factor) =>
      zip(
        one[state.by].map(v => (v == null ? null : state.by === "seconds" ? v / per : v)),
        values,
        factor,
      );
    const left = runs.filter(run => state.unit === "bits" && !run.bits_per_nat);
    const series = runs.flatMap((run, i) => {
      if (left.includes(run)) return [];
      const factor = state.unit === "bits" ? run.bits_per_nat : 1;
      const color = COLORS[i % COLORS.length];
      const dash = i >= COLORS.length;
      return [
        { name: run.name, color, dash, points: over(run.curves, run.curves.smoothed, factor) },
        {
          name: `${run.name}, val_loss`,
          color,
          dots: true,
          points: over(run.validation, run.validation.val_loss ?? [], factor),
        },
      ];
    });
    chart(place, {
      x: { step: "step", tokens: "tokens", seconds: `${unit} in the loop` }[state.by],
      y: state.unit === "bits" ? "bits a byte" : nats,
      series,
      height: 380,
    });
    if (left.length)
      element(
        "p",
        "Left out, since nothing is known of it in bits a byte: " +
          left
            .map(run => `${run.name} (${run.task === "labels" ? "it tells labels apart" : "no validation yet"})`)
            .join(", ") +
          ".",
        place,
        { class: "small" },
      );
  };
  const choice = (label, key, options) => {
    const box = element("div", null, s, { class: "choice" });
    element("span", label, box);
    for (const [value, text] of options) {
      const one = element("label", null, box);
      const button = element("input", null, one, { type: "radio", name: key, value });
      button.checked = state[key] === value;
      one.append(" " + text);
      button.addEventListener("change", () => {
        state[key] = value;
        draw();
      });
    }
  };
  choice("against", "by", [
    ["step", "steps"],
    ["tokens", "tokens"],
    ["seconds", "time"],
  ]);
  if (inBits)
    choice("in", "unit", [
      ["nats", nats],
      ["bits", "bits a byte (of each validation text)"],
    ]);
  s.append(place);
  draw();
}

function drawSamples() {
  const s = section(
    "samples",
    "Samples at the end",
    `The last of each: ${[...new Set(runs.map(run => run.wrote))].join("; ")}.`,
  );
  const texts = element("div", null, s, { class: "texts" });
  for (const run of runs) {
    const one = element("div", null, texts);
    element(
      "h3",
      !run.sample
        ? run.name
        : run.sample.step
          ? `${run.name}, after step ${whole(run.sample.step)}`
          : `${run.name}, before training`,
      one,
    );
    element("pre", run.sample ? run.sample.text : "(no sample was written)", one, { tabindex: 0 });
  }
}

for (const draw of [drawResults, drawSettings, drawCurves, drawSamples]) {
  draw();
}

document.body.dataset.drawn = "yes";
