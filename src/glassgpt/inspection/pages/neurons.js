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
      "and the tokens that it writes for (its value" +
      `${sum ? ", through the last norm as it came out at the prompt's end" : ""}, unembedded).`,
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
