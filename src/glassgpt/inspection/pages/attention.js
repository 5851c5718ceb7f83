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
