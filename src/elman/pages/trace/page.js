const MOST_COLUMNS = 16, MOST_NUMBERS = 8, MOST_IN_ROW = 32, MOST_IN_MATRIX = 16, LABEL_HEIGHT = 14, LABEL_WIDTH = 16;
const { glyphs, quantities, parameters, snapshots, inputs, targets } = data;
const last = inputs.length - 1;
const now = { step: 0, shot: 0, backward: false };
const COLOURS = "In colour: red positive, blue negative, as strong as a value is large, each row by its own largest size.";
let shown = null; // what the detail panel is about: a key, parameter (its gradient) or weights; step and index or neither

const values = (key, step) => snapshots[now.shot].steps[step][key];
const bySymbol = key => ["one_hot", "logits", "probabilities", "d_logits"].includes(key);
const topLayer = data.num_layers - 1;

/** A number in few characters. */
function short(value) {
  const size = Math.abs(value);
  if (value === 0 || value === 1) return String(value);
  return size < 1e-3 || size >= 1e3 ? value.toExponential(1) : value.toFixed(size < 100 ? 3 : 1);
}

/** A number to 6 digits. */
function long(value) {
  const size = Math.abs(value);
  if (value === 0 || value === 1) return String(value);
  return size < 1e-3 || size >= 1e5 ? value.toExponential(5) : value.toPrecision(6);
}

const largest = vector => vector.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;

/** Red for positive and blue for negative numbers, as strong as they are large. */
function heat(value, most, strength) {
  const alpha = (strength * Math.abs(value) / most).toFixed(3);
  return `rgba(var(--${value < 0 ? "negative" : "positive"}), ${alpha})`;
}

const cut = (text, length) => {
  const characters = [...text];
  return characters.length > length ? characters.slice(0, length - 1).join("") + "…" : text;
};

// The gradients, summed from the last step down to this one: what the factors' outer products add up to.

function joined(keys, step) {
  return keys.length === 1 ? values(keys[0], step) : keys.flatMap(key => values(key, step));
}

function accumulated(name) {
  const { shape: [rows, columns = 1], factors } = parameters[name];
  const sums = new Float64Array(rows * columns);
  for (let step = last; step >= now.step; step--) {
    for (const [left, right] of factors) {
      const down = joined(left, step), across = right === null ? [1] : values(right, step);
      down.forEach((value, i) => {
        if (value !== 0) for (let j = 0; j < columns; j++) sums[i * columns + j] += value * across[j];
      });
    }
  }
  return sums;
}

// The figure.

const COLUMN = 150, LEFT = 70, BOX = 92, ROW = 17, GAP = 58, CELL = 9, IN_STRIP = 10;

const boxHeight = length => length <= MOST_NUMBERS ? length * ROW + 8 : Math.ceil(length / IN_STRIP) * CELL + 8;

function box(key, step, x, y, most) {
  const vector = values(key, step), about = quantities[key];
  const made = svg("g", { class: "box", tabindex: 0, role: "button", "data-key": key, "data-step": step,
    "aria-label": `${about.name}, ${about.part}, step ${step}` });
  made.append(svg("rect", { class: "frame", x, y, width: BOX, height: boxHeight(vector.length), rx: 4 }));
  const scores = key === "logits" || key === "d_logits";
  vector.forEach((value, i) => {
    if (vector.length > MOST_NUMBERS) {
      const place = { x: x + 1 + (i % IN_STRIP) * CELL, y: y + 4 + Math.floor(i / IN_STRIP) * CELL };
      const cell = svg("rect", { ...place, width: CELL - 1, height: CELL - 1, "data-index": i });
      cell.setAttribute("style", `fill: ${heat(value, most, 1)}`);
      if (scores && i === targets[step]) cell.setAttribute("stroke", "var(--good)");
      made.append(cell);
      return;
    }
    const top = y + 4 + i * ROW;
    if (!scores) {
      const back = svg("rect", { x: x + 2, y: top, width: BOX - 4, height: ROW - 1 });
      back.setAttribute("style", `fill: ${heat(value, most, 0.45)}`);
      made.append(back);
    }
    const colour = scores ? (i === targets[step] ? "good" : "bad") : "";
    if (bySymbol(key)) made.append(svg("text", { x: x + 6, y: top + 13, class: "faint" }, cut(glyphs[i], 3)));
    made.append(svg("text", { x: x + BOX - 6, y: top + 13, "text-anchor": "end", class: colour, "data-index": i },
      short(value)));
  });
  return made;
}

function arrow(from, to, label, at) {
  const [[x1, y1], [x2, y2]] = now.backward ? [to, from] : [from, to];
  const angle = Math.atan2(y2 - y1, x2 - x1) * 180 / Math.PI;
  const made = svg("g", {}, svg("line", { class: "arrow", x1, y1, x2, y2 }),
    svg("path", { class: "tip", d: "M0,0 L-8,-4 L-8,4 Z", transform: `translate(${x2},${y2}) rotate(${angle})` }));
  if (label) made.append(svg("text", { class: "faint", x: at[0], y: at[1], "text-anchor": at[2] }, label));
  return made;
}

function network() {
  const first = Math.max(0, Math.min(now.step - MOST_COLUMNS / 2, last + 1 - MOST_COLUMNS));
  const columns = Math.min(last + 1, MOST_COLUMNS);
  const input = "x" in quantities ? "x" : "one_hot";
  const [h, c] = now.backward ? ["d_h", "d_c"] : ["h", "c"];
  // from the top: what stands in a row, the label of the arrow to the row above, and of those from step to step
  const rows = [{ key: now.backward ? "d_logits" : "logits" }];
  for (let layer = topLayer; layer >= 0; layer--) {
    const [hidden, cell] = [h, c].map(name => `layers.${layer}.${name}`);
    rows.push({ key: hidden, up: layer < topLayer ? "W_xh" : data.tie_weights ? "E" : "W_hy", across: "W_hh" });
    if (cell in quantities) rows.push({ key: cell, up: "o·tanh", across: c });
  }
  rows.push({ key: input, up: "W_xh" });
  const tops = [], most = {};
  let y = 48;
  for (const { key } of rows) {
    tops.push(y);
    y += boxHeight(values(key, 0).length) + GAP;
    most[key] = Math.max(...inputs.map((_, step) => largest(values(key, step))));
  }
  const height = y - GAP + 32, width = LEFT + columns * COLUMN + 20;
  const drawn = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group" });
  rows.forEach(({ key }, i) => {
    const about = quantities[key], middle = tops[i] + boxHeight(values(key, 0).length) / 2;
    drawn.append(svg("text", { x: 6, y: middle, class: "faint" }, about.name));
    if (about.part.startsWith("layer") && topLayer > 0)
      drawn.append(svg("text", { x: 6, y: middle + 14, class: "faint" }, about.part));
  });
  const lines = svg("g", { class: now.backward ? "back" : "" });
  for (let n = 0; n < columns; n++) {
    const step = first + n, x = LEFT + n * COLUMN + 24, centre = x + BOX / 2;
    drawn.append(svg("rect", { class: step === now.step ? "now" : "", fill: "none", "data-column": step, x: x - 10,
      y: 4, width: BOX + 20, height: height - 8, rx: 6 }));
    const target = svg("text", { x: centre, y: 22, "text-anchor": "middle" },
      svg("tspan", { class: "faint" }, "target "), svg("tspan", { class: "good" }, cut(glyphs[targets[step]], 6)));
    const p = short(values("probabilities", step)[targets[step]]);
    drawn.append(target, svg("text", { x: centre, y: 39, "text-anchor": "middle", class: "faint" }, `p ${p}`));
    rows.forEach(({ key, up, across }, i) => {
      if (up) {
        lines.append(arrow([centre, tops[i] - 2], [centre, tops[i] - GAP + 2], up,
          [centre + 6, tops[i] - GAP / 2 + 4, "start"]));
      }
      if (across) {
        const level = tops[i] + boxHeight(values(key, step).length) / 2;
        const start = n === 0 ? x - 34 : x - (COLUMN - BOX) + 2;
        lines.append(arrow([start, level], [x - 2, level], across, [x - (COLUMN - BOX) / 2, level - 8, "middle"]));
      }
    });
    drawn.append(svg("text", { x: centre, y: height - 14, "text-anchor": "middle" },
      svg("tspan", { class: "faint" }, `${step}: reads `), cut(glyphs[inputs[step]], 6)));
  }
  drawn.append(lines);
  for (let n = 0; n < columns; n++) rows.forEach(({ key }, i) =>
    drawn.append(box(key, first + n, LEFT + n * COLUMN + 24, tops[i], most[key])));
  const held = document.activeElement?.closest?.("svg .box")?.dataset;
  const frame = find("network"), scrolled = frame.scrollLeft;
  frame.replaceChildren(drawn);
  frame.scrollLeft = scrolled;
  if (held) drawn.querySelector(`[data-key="${CSS.escape(held.key)}"][data-step="${held.step}"]`)?.focus();
  const left = LEFT + (now.step - first) * COLUMN;
  if (left < frame.scrollLeft || left + COLUMN > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = left - LEFT;
  const part = columns <= last ? ` Steps ${first} to ${first + columns - 1} of ${last + 1} are drawn.` : "";
  const cells = "layers.0.c" in quantities, few = glyphs.length <= MOST_NUMBERS;
  const target = few ? "that of the target green, the others red" : "the target framed in green";
  const said = now.backward
    ? `Gradients flow against the arrows of the forward pass: d_logits above, ${target}, and d_h`
      + `${cells ? " and d_c, two ways back through time," : ""} in each layer.`
    : `Inputs below, hidden units ${cells ? "h and cell states c, two ways through time, " : ""}in the middle, `
      + `scores above: ${target}.`;
  find("caption").textContent = `${said}${part} ${COLOURS}`;
}

// The tables of the current step.

function row(key) {
  const about = quantities[key], vector = values(key, now.step);
  const name = element("th", { scope: "row" }, about.name);
  if (about.tutorial) name.append(element("small", {}, `tutorials: ${about.tutorial}`));
  return element("tr", { tabindex: 0, "data-key": key }, name, element("td", {}, list(vector, key)));
}

/** A vector: its numbers, or coloured squares; ``symbols``: whether each entry is for one. */
function list(vector, key = "", most = largest(vector), symbols = bySymbol(key)) {
  if (vector.length > MOST_IN_ROW) {
    const strip = element("div", { class: "strip" });
    vector.forEach((value, i) => {
      const cell = element("span", { "data-index": i });
      cell.style.background = heat(value, most, 1);
      if (bySymbol(key) && i === targets[now.step]) cell.style.borderColor = "var(--good)";
      strip.append(cell);
    });
    return strip;
  }
  const scores = key === "logits" || key === "d_logits" || key === "probabilities";
  const numbers = element("div", { class: scores ? "numbers good-bad" : "numbers" });
  vector.forEach((value, i) => {
    const cell = element("span", { "data-index": i }, long(value));
    if (symbols) cell.prepend(element("small", {}, cut(glyphs[i], 6)));
    if (scores) cell.className = i === targets[now.step] ? "target" : "other";
    else if (vector.length > 1 || most !== largest(vector)) cell.style.background = heat(value, most, 0.35);
    numbers.append(cell);
  });
  return numbers;
}

/** What the rows and columns of a parameter are for: labels, and how many rows each of them is for. */
function labels(name) {
  const kind = name.split(".").at(-1), own = data.embedding_size === null && name === "recurrent.layers.0.W_xh";
  const across = own ? glyphs : [];
  if (["W_hy", "b_y", "E"].includes(kind)) return { down: glyphs, each: 1, across };
  const gates = kind === "b_hn" ? data.gates.slice(-1) : data.gates;
  return { down: data.gates.length > 1 ? gates : [], each: data.hidden_size, across };
}

/** A line of ``numbers`` behind its label, if the rows have any, the entries counted from ``first``. */
function line(label, numbers, first) {
  [...numbers.children].forEach((cell, i) => cell.setAttribute("data-index", first + i));
  const front = label === undefined ? [] : [element("span", { class: "label" }, cut(label, 6))];
  return element("div", { class: "line" }, ...front, numbers);
}

function bias(flat, { down, each }) {
  if (each === 1 || down.length === 0) return list(flat, "", largest(flat), each === 1);
  const most = largest(flat);
  return element("div", { class: "matrix" }, ...down.map((gate, k) =>
    line(gate, list(flat.slice(k * each, (k + 1) * each), "", most), k * each)));
}

function matrix(flat, rows, columns, { down, each, across }) {
  if (rows <= MOST_IN_MATRIX && columns <= MOST_IN_MATRIX) {
    const made = element("div", { class: "matrix" }), most = largest(flat);
    const front = down.length ? [element("span", { class: "label" })] : [];
    const heads = across.map(glyph => element("span", { class: "label" }, cut(glyph, 6)));
    if (across.length) made.append(element("div", { class: "line" }, ...front,
      element("div", { class: "numbers" }, ...heads)));
    for (let i = 0; i < rows; i++) {
      const label = down.length ? (i % each ? "" : down[i / each]) : undefined;
      made.append(line(label, list([...flat.slice(i * columns, (i + 1) * columns)], "", most), i * columns));
    }
    return made;
  }
  const zoom = Math.max(rows > 500 ? 1 : 2, Math.min(8, Math.floor(640 / columns), Math.floor(400 / rows)));
  // Where there is room, its squares become rectangles that a label fits beside.
  const rowsFit = down.length > 0 && rows * LABEL_HEIGHT / each <= 800;
  const columnsFit = across.length > 0 && columns * LABEL_WIDTH <= 640;
  const high = rowsFit ? Math.max(zoom, Math.ceil(LABEL_HEIGHT / each)) : zoom;
  const wide = columnsFit ? Math.max(zoom, LABEL_WIDTH) : zoom;
  const canvas = element("canvas", { width: columns, height: rows });
  canvas.style.width = `${columns * wide}px`;
  canvas.style.height = `${rows * high}px`;
  const most = largest(flat), style = getComputedStyle(document.documentElement);
  const colours = ["--positive", "--negative"].map(name => style.getPropertyValue(name).split(",").map(Number));
  const image = new ImageData(columns, rows);
  flat.forEach((value, i) => {
    const alpha = Math.round(255 * Math.abs(value) / most);
    image.data.set([...colours[value < 0 ? 1 : 0], alpha], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  const sized = (text, size, characters) => {
    const label = element("span", { class: "label" }, cut(text, characters));
    label.style.setProperty("--size", `${size}px`);
    return label;
  };
  const side = rowsFit ? [element("div", { class: "side" }, ...down.map(text => sized(text, each * high, 6)))] : [];
  const head = columnsFit ? [element("div", { class: "top" }, ...across.map(text => sized(text, wide, 2)))] : [];
  return element("div", { class: "matrix drawn" }, ...side, element("div", {}, ...head, canvas));
}

function gradientRow(name, flat) {
  const { shape: [rows, columns] } = parameters[name];
  const title = element("th", { scope: "row" }, `d_${name.split(".").at(-1)}`, element("small", {}, name));
  const body = columns === undefined ? bias([...flat], labels(name)) : matrix(flat, rows, columns, labels(name));
  return element("tr", { tabindex: 0, "data-parameter": name }, title, element("td", {}, body));
}

function weightRow(name) {
  const { shape: [rows, columns] } = parameters[name], weights = snapshots[now.shot].parameters[name];
  const title = element("th", { scope: "row" }, name.split(".").at(-1), element("small", {}, name));
  const body = weights === undefined ? `${rows} × ${columns}, too many to list`
    : columns === undefined ? bias(weights, labels(name))
      : matrix(Float64Array.from(weights.flat()), rows, columns, labels(name));
  return element("tr", { tabindex: 0, "data-weights": name }, title, element("td", {}, body));
}

function tables() {
  const direction = now.backward ? "backward" : "forward";
  const keys = Object.keys(quantities).filter(key => quantities[key].direction === direction);
  let parts = [...new Set(keys.map(key => quantities[key].part))];
  if (now.backward) parts.reverse();
  const reads = `step ${now.step} reads ${glyphs[inputs[now.step]]}, its target is ${glyphs[targets[now.step]]}`;
  const made = [element("h2", {}, `${now.backward ? "Backward" : "Forward"}: ${reads}`)];
  for (const part of parts) {
    const own = keys.filter(key => quantities[key].part === part);
    made.push(element("h3", {}, part), element("table", {}, element("tbody", {}, ...own.map(row))));
  }
  const names = Object.keys(parameters);
  if (now.backward) {
    gradients.clear();
    for (const name of names) gradients.set(name, accumulated(name));
    const steps = now.step === last ? `step ${last} alone` : `the sum of the steps ${last} to ${now.step}`;
    made.push(element("h2", { id: "gradients" }, `Gradients of the weights: ${steps}`));
    const rows = names.map(name => gradientRow(name, gradients.get(name)));
    made.push(element("table", {}, element("tbody", {}, ...rows)));
  } else {
    made.push(element("h2", {}, "Weights"));
    made.push(element("table", {}, element("tbody", {}, ...names.map(weightRow))));
  }
  const held = document.activeElement?.closest?.("tr")?.dataset;
  find("tables").replaceChildren(...made);
  if (held) [...document.querySelectorAll("tr")].find(each =>
    ["key", "parameter", "weights"].every(kind => each.dataset[kind] === held[kind]))?.focus();
}
const gradients = new Map();

// The panel below: the equation of what is hovered, focused or tapped, the line that computes it, and its value.

/** The numbers of what is shown; undefined where these are not on the page now. */
function settled() {
  if (shown.key) return values(shown.key, shown.step ?? now.step);
  return shown.parameter ? now.backward && gradients.get(shown.parameter)
    : snapshots[now.shot].parameters[shown.weights]?.flat();
}

function detail() {
  const panel = find("detail");
  const vector = shown && settled();
  if (!vector) {
    panel.className = "idle";
    panel.replaceChildren(element("p", { class: "faint" },
      "Hover, focus or tap: equation and line of code."));
    return;
  }
  panel.className = "";
  const parameter = shown.parameter ?? shown.weights;
  const about = shown.key ? quantities[shown.key] : shown.parameter ? parameters[parameter] : { equation: "" };
  const columns = shown.key ? undefined : parameters[parameter].shape[1];
  const name = shown.key ? about.name : (shown.parameter ? "d_" : "") + parameter.split(".").at(-1);
  const where = shown.key ? `${about.part}, step ${shown.step ?? now.step}` : parameter;
  const index = shown.index < vector.length ? shown.index : undefined;
  let value;
  if (index !== undefined) {
    const { down, each, across } = shown.key ? { down: bySymbol(shown.key) ? glyphs : [], each: 1, across: [] }
      : labels(parameter);
    const row = Math.floor(index / (columns ?? 1)), column = index % (columns ?? 1);
    const label = down.length === 0 ? row : each === 1 ? down[row] : `${down[Math.floor(row / each)]} ${row % each}`;
    const place = columns === undefined ? label : `${label}, ${across.length ? across[column] : column}`;
    value = `${name}[${place}] = ${long(vector[index])}`;
  } else {
    const norm = Math.sqrt(vector.reduce((sum, each) => sum + each * each, 0));
    value = vector.length <= 600 ? [...vector].map(long).join("  ") : `norm ${long(norm)}, ${vector.length} entries`;
  }
  const line = element("p", {});
  if (about.line) line.append(element("span", { class: "faint" }, `${about.file}:${about.line}  `),
    element("code", { class: "line" }, about.code));
  panel.replaceChildren(
    element("p", {}, element("strong", {}, name), element("span", { class: "faint" }, `  ${where}`)),
    element("p", {}, element("code", { class: "equation" }, about.equation)),
    line, element("p", { class: "value" }, element("code", {}, value)));
}

let pointer = ""; // where it was last: what scrolls by under a pointer at rest does not take the place of what has focus

function look(event) {
  if (event.type === "pointermove") {
    const place = `${event.clientX},${event.clientY}`;
    if (place === pointer) return;
    pointer = place;
  }
  const at = event.target.closest?.("[data-key], [data-parameter], [data-weights]");
  if (!at) return;
  const { key, parameter, weights, step } = at.dataset;
  shown = { key, parameter, weights, step: step === undefined ? undefined : Number(step) };
  const cell = event.type === "focusin" ? null : event.target.closest("[data-index]");
  if (cell) shown.index = Number(cell.dataset.index);
  else if (event.target.tagName === "CANVAS") {
    const box = event.target.getBoundingClientRect(), { width, height } = event.target;
    const column = Math.min(width - 1, Math.floor((event.clientX - box.left - 1) / box.width * width));
    const line = Math.min(height - 1, Math.floor((event.clientY - box.top - 1) / box.height * height));
    shown.index = Math.max(0, line) * width + Math.max(0, column);
  }
  detail();
}

for (const kind of ["pointermove", "focusin", "click"]) document.addEventListener(kind, look);
find("network").addEventListener("click", event => {
  const step = event.target.closest("[data-step]")?.dataset.step ?? event.target.dataset.column;
  if (step === undefined) return;
  find("step").value = step;
  find("step").dispatchEvent(new Event("input"));
});

function draw() {
  const shot = snapshots[now.shot];
  find("step-shown").textContent = `${now.step} of ${last}`;
  find("shot-shown").textContent = `after ${shot.update} of ${data.updates} updates, loss ${long(shot.loss)}`;
  network();
  tables();
  detail();
}

const size = `${data.hidden_size} units, ${data.num_layers} ${data.num_layers > 1 ? "layers" : "layer"}`;
const reads = data.embedding_size === null ? "one-hot input" : `embedding of ${data.embedding_size}`;
const weights = data.model === null ? `${data.initialization} weights, seed ${data.seed}` : data.model;
find("title").textContent = [...inputs, targets[last]].map(id => glyphs[id]).join("");
find("summary").textContent = `${data.cell}, ${size}, ${reads}; ${weights}; loss ${long(snapshots[0].loss)} nats`
  + (data.updates ? ` before training, ${long(snapshots.at(-1).loss)} nats after ${data.updates} updates` : "")
  + (last ? `, the sum of ${last + 1} steps` : " of 1 step");
find("notes").append(...data.notes.map(note => element("li", {}, note)));
find("step").max = last;
find("shot").max = snapshots.length - 1;
find("training").hidden = snapshots.length === 1;
find("step").addEventListener("input", event => { now.step = Number(event.target.value); draw(); });
find("shot").addEventListener("input", event => { now.shot = Number(event.target.value); draw(); });
for (const radio of document.getElementsByName("direction"))
  radio.addEventListener("change", () => { now.backward = radio.value === "backward" && radio.checked; draw(); });
new ResizeObserver(() => { // what is fixed below covers no content
  const height = `${find("detail").offsetHeight + 16}px`;
  document.body.style.paddingBottom = document.documentElement.style.scrollPaddingBottom = height;
}).observe(find("detail"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
