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
