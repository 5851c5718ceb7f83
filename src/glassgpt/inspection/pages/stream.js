// The logit lens
function drawLens() {
  const s = section(
    "lens",
    "What each layer would say",
    "The logit lens: the residual stream after each layer, through the last norm and the output " +
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
    "Its length after each layer, at each token; its direction, beside that of the layer before and " +
      "that in which it ends (cosine; red: away from it); then the length of what each attention and MLP " +
      "adds" +
      (data.parts.includes("token embedding")
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
  shade("direction: cosine with the end, what the last layer leaves", data.stages, data.cosine_with_end, 1);
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
