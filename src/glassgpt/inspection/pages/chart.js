const exact = v =>
  v === 0
    ? "0"
    : Math.abs(v) >= 1e4
      ? whole(Math.round(v))
      : Math.abs(v) < 1e-3
        ? v.toExponential(3)
        : String(+v.toPrecision(5));

// Round numbers between two limits, at most about `count`, and how they are written.
function ticks(least, most, count, finest = 0) {
  const rough = (most - least) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(finest, power * [1, 2, 5, 10].find(f => f * power >= rough * 0.999));
  const found = [];
  for (let i = Math.ceil(least / step - 1e-9); i * step <= most + step * 1e-9; i++) found.push(i * step);
  const large = Math.max(Math.abs(least), Math.abs(most));
  const [unit, sign] =
    large >= 1e12
      ? [0, ""]
      : large >= 1e9
        ? [1e9, "G"]
        : large >= 1e6
          ? [1e6, "M"]
          : large >= 1e4
            ? [1e3, "k"]
            : large < 1e-3
              ? [0, ""]
              : [1, ""];
  const digits = Math.max(0, -Math.floor(Math.log10(step / (unit || 1)) + 1e-9));
  return found.map(v => [
    v,
    v === 0
      ? "0"
      : unit
        ? (v / unit).toFixed(digits) + sign
        : v.toExponential(
            Math.max(0, Math.floor(Math.log10(Math.abs(v)) + 1e-9) - Math.floor(Math.log10(step) + 1e-9)),
          ),
  ]);
}

// Curves over each other. A series has name, color, points [[x, y or null], ...], and may be `dots` (joined by a thin
// line), `faint` or dashed. `marks` are places on the x axis with a colour, `most` what no figure can pass. Lines and
// words of every curve are shown where one points.
// It is drawn as wide as its place, and anew once that changes,
// so that its words are as large as those around it.
const SVG = document.querySelector("svg").namespaceURI;

function chart(parent, { title, x, y, series, marks = [], most = Infinity, height = 300 }) {
  const box = element("figure", null, parent);
  const drawn = series.filter(s => s.points.some(p => p[1] != null));
  if (title) element("figcaption", title, box);
  if (!drawn.length) {
    element("p", "No figures of this yet.", box);
    return;
  }
  const all = drawn.flatMap(s => s.points.filter(p => p[1] != null));
  const places = [...new Set(all.map(p => p[0]))].sort((a, b) => a - b);
  if (places.length < 2) {
    element(
      "p",
      `${drawn.map(s => `${s.name ?? y}: ${exact(s.points.find(p => p[1] != null)[1])}`).join("; ")} ` +
        `(at ${x} ${exact(places[0])}; a curve takes two)`,
      box,
    );
    return;
  }
  if (series.length > 1) {
    const legend = element("div", null, box, { class: "legend" });
    for (const s of drawn) {
      const one = element("span", null, legend);
      const i = element("i", null, one, s.dots ? { class: "dots" } : {});
      i.style.borderColor = s.color;
      if (s.dash) i.style.borderTopStyle = "dashed";
      one.append(s.name);
    }
  }
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("aria-label", `${title ?? y} by ${x}`);
  box.append(svg);
  const draw = (kind, attributes, text) => {
    const made = document.createElementNS(SVG, kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text != null) made.textContent = text;
    svg.append(made);
    return made;
  };
  const range = i => all.reduce(([a, b], p) => [Math.min(a, p[i]), Math.max(b, p[i])], [Infinity, -Infinity]);
  let [left, right] = range(0);
  let [low, high] = range(1);
  let wide;
  let line;
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  low = low >= 0 && low - room < 0 ? 0 : low - room;
  high = Math.min(high + room, most);
  const edge = { left: 58, right: 22, top: 30, bottom: 40 };
  const X = v => edge.left + ((v - left) / (right - left)) * (wide - edge.left - edge.right);
  const Y = v => height - edge.bottom - ((v - low) / (high - low)) * (height - edge.top - edge.bottom);
  const there = () => box.clientWidth || 860;
  const paint = () => {
    wide = there();
    svg.setAttribute("viewBox", `0 0 ${wide} ${height}`);
    svg.replaceChildren();
    for (const [v, text] of ticks(low, high, height / 50)) {
      draw("line", { class: "grid", x1: edge.left, x2: wide - edge.right, y1: Y(v), y2: Y(v) });
      draw("text", { x: edge.left - 6, y: Y(v) + 4, "text-anchor": "end" }, text);
    }
    for (const [v, text] of ticks(left, right, wide / 90, places.every(Number.isInteger) ? 1 : 0)) {
      draw("line", { class: "grid", x1: X(v), x2: X(v), y1: height - edge.bottom, y2: height - edge.bottom + 4 });
      draw("text", { x: X(v), y: height - edge.bottom + 17, "text-anchor": "middle" }, text);
    }
    draw("text", { x: edge.left - 6, y: 14, "text-anchor": "start" }, y);
    draw("text", { x: wide - edge.right, y: height - 6, "text-anchor": "end" }, x);
    for (const m of marks)
      if (m.x >= left && m.x <= right)
        draw("line", {
          x1: X(m.x),
          x2: X(m.x),
          y1: edge.top,
          y2: height - edge.bottom,
          style: `stroke: ${m.color}; stroke-dasharray: 3 3`,
        });
    for (const s of drawn) {
      let path = "";
      let pen = "M";
      const few = s.dots || s.points.length < 30;
      const radius = !s.dots ? (s.faint ? 1.5 : 2) : s.points.length < 60 ? 3.5 : 2;
      s.points.forEach(([px, py], i) => {
        if (py == null) {
          pen = "M";
          return;
        }
        path += `${pen}${X(px).toFixed(1)} ${Y(py).toFixed(1)}`;
        pen = "L";
        const alone = s.points[i - 1]?.[1] == null && s.points[i + 1]?.[1] == null;
        if (few || alone)
          draw("circle", { cx: X(px).toFixed(1), cy: Y(py).toFixed(1), r: radius, style: `fill: ${s.color}` });
      });
      draw("path", {
        d: path,
        style:
          `fill: none; stroke: ${s.color}; stroke-width: ${s.dots || s.faint ? 1.2 : 2}; stroke-linejoin: ` +
          `round${s.dash ? "; stroke-dasharray: 6 4" : ""}`,
      });
    }
    line = draw("line", { y1: edge.top, y2: height - edge.bottom, style: "stroke: var(--soft); display: none" });
  };
  paint();
  new ResizeObserver(() => {
    if (wide !== there()) paint();
  }).observe(box);
  let chosen = places.length - 1;
  const point = (at, mouse) => {
    chosen = at;
    const px = X(places[at]);
    const rows = [];
    for (const s of drawn) {
      let near = null;
      for (const p of s.points)
        if (
          p[1] != null &&
          Math.abs(X(p[0]) - px) < 6 &&
          (!near || Math.abs(p[0] - places[at]) < Math.abs(near[0] - places[at]))
        )
          near = p;
      if (near) rows.push(`${s.name ?? y}: ${exact(near[1])}`);
    }
    for (const m of marks) if (m.says && Math.abs(X(m.x) - px) < 6) rows.push(m.says);
    line.setAttribute("x1", px);
    line.setAttribute("x2", px);
    line.style.display = "inline";
    const frame = svg.getBoundingClientRect();
    showTip(
      [`${x} ${exact(places[at])}`, ...rows].join("\n"),
      mouse?.clientX ?? frame.left + (px * frame.width) / wide,
      mouse?.clientY ?? frame.top + frame.height / 3,
    );
  };
  const nearest = v => places.reduce((best, p, i) => (Math.abs(p - v) < Math.abs(places[best] - v) ? i : best), 0);
  svg.addEventListener("pointermove", event => {
    const frame = svg.getBoundingClientRect();
    point(
      nearest(
        left +
          ((((event.clientX - frame.left) * wide) / frame.width - edge.left) / (wide - edge.left - edge.right)) *
            (right - left),
      ),
      event,
    );
  });
  svg.addEventListener("keydown", event => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) {
      point(Math.max(0, Math.min(places.length - 1, chosen + move)));
      event.preventDefault();
    }
  });
  for (const end of ["pointerleave", "blur"])
    svg.addEventListener(end, () => {
      line.style.display = "none";
      hideTip();
    });
}

// Children of `box`, each at least so many pixels wide, in rows that are as full as each other.
function inEvenRows(box, least) {
  const count = box.children.length;
  const fit = () => {
    const most = Math.max(1, Math.floor(box.clientWidth / least));
    box.style.setProperty("--columns", Math.ceil(count / Math.ceil(count / most)));
  };
  fit();
  new ResizeObserver(fit).observe(box);
}

const zip = (xs, ys, factor = 1) =>
  xs.map((x, i) => [x, ys[i] == null ? null : ys[i] * factor]).filter(p => p[0] != null);
