const { model, text, levels, likeliest } = data;
const SIGNED = levels.zero > 0;
const MOST = SIGNED ? 127 : 255;
const STRONGEST = 0.6; // of a colour behind text, so that the text stays legible
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

function bytes(packed) {
  return Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
}
const surprisal = new Float32Array(bytes(data.surprisal).buffer);
const probabilities = new Uint16Array(bytes(likeliest.probabilities).buffer);
const guesses = new (likeliest.bytes === 2 ? Uint16Array : Uint32Array)(bytes(likeliest.ids).buffer);

/** A text in which every character can be seen: controls as glyphs, what cannot be seen by its number. */
function visible(string) {
  return string.replace(HIDDEN, (character) => {
    const code = character.codePointAt(0);
    if (character === "\n") return "↵";
    if (character === "\t") return "⇥";
    if (code < 32) return String.fromCharCode(0x2400 + code);
    return code === 127 ? "␡" : `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** The same for a list of symbols, where a blank must be seen too. */
function symbol(string) {
  return visible(string).replace(/^ +| +$/g, (blanks) => "␣".repeat(blanks.length));
}

// ---- the text
const area = find("text");
const spans = data.tokens.map((token, place) => {
  const span = document.createElement("span");
  span.textContent = visible(token).replaceAll("↵", "↵\n");
  if (/^\s$/.test(token) && token !== " ") span.className = "control";
  span.place = place;
  return span;
});
for (const place of data.unknown) spans[place].classList.add("unknown");
find("marks").hidden = !data.unknown.length;
for (const place of data.parts) {
  spans[place].classList.add("part");
  spans[place].textContent = "·";
}
// In blocks of whole lines, of which the browser lays out and paints those in sight alone.
let block = element("div");
spans.forEach((span, place) => {
  block.append(span);
  if (block.childNodes.length >= 400 && data.tokens[place].endsWith("\n")) {
    area.append(block);
    block = element("div");
  }
});
area.append(block);

/** The background of each level: the sign of its distance from the middle gives the colour, its size the strength. */
function colours(middle, most) {
  return Array.from({ length: 256 }, (_, level) => shade((level - middle) / most));
}

function shade(strength) {
  const name = strength < 0 ? "--negative" : "--positive";
  return `rgba(var(${name}), ${(STRONGEST * Math.min(1, Math.abs(strength) || 0)).toFixed(3)})`;
}
const LN_V = Math.log(model.vocab_size);

let chosen = 0; // which of data.units
let activations = null;
let here = null;

function recolour() {
  const unit = find("colour").value === "unit";
  find("which").hidden = !unit;
  if (unit) colourByUnit();
  else colourBySurprisal();
}

function colourByUnit() {
  let [low, high] = SIGNED ? [levels.zero - MOST, levels.zero + MOST] : [0, MOST];
  if (find("stretch").checked) [low, high] = range(activations);
  const middle = SIGNED ? (low + high) / 2 : low;
  const table = colours(middle, Math.max(high - middle, 0.5));
  spans.forEach((span, place) => { span.style.backgroundColor = table[activations[place]]; });
  const h = (level) => shown((level - levels.zero) * levels.steps[chosen]);
  legend(`h = ${h(low)}`, h(high), SIGNED ? shade(-1) : "transparent");
}

function colourBySurprisal() {
  spans.forEach((span, place) => { span.style.backgroundColor = shade(surprisal[place] / LN_V); });
  legend("0", `${LN_V.toFixed(2)} nats (ln ${model.vocab_size}: no idea) or more`, "transparent");
}

function range(numbers) {
  return [numbers.reduce((a, b) => Math.min(a, b)), numbers.reduce((a, b) => Math.max(a, b))];
}

function legend(low, high, start) {
  find("low").textContent = low;
  find("high").textContent = high;
  find("scale").style.background = `linear-gradient(to right, ${start}, transparent, ${shade(1)})`;
}

function shown(number) {
  return Number(number.toPrecision(3)).toString();
}

// ---- choosing a unit
const index = new Map(data.units.map(([layer, unit], at) => [`${layer}:${unit}`, at]));

function choose(at) {
  chosen = (at + data.units.length) % data.units.length;
  const [layer, unit] = data.units[chosen];
  activations = bytes(levels.units[chosen]);
  find("layer").value = layer;
  find("unit").value = unit;
  find("message").textContent = "";
  find("colour").value = "unit";
  for (const button of find("rankings").querySelectorAll("button"))
    button.setAttribute("aria-pressed", String(button.dataset.unit === `${layer}:${unit}`));
  for (const point of document.querySelectorAll(".chosen")) point.classList.remove("chosen");
  for (const point of document.querySelectorAll(`[data-unit="${layer}:${unit}"]`))
    if (point.classList.contains("unit")) point.classList.add("chosen");
  recolour();
  read(here);
}

/** After a person's choice: the colours that changed should be in sight. */
function chooseInSight(at) {
  choose(at);
  const { top, bottom } = area.getBoundingClientRect();
  if (Math.min(bottom, innerHeight) - Math.max(top, 0) < area.clientHeight / 2) area.scrollIntoView({ block: "nearest" });
}

function chooseNamed(name) {
  if (index.has(name)) chooseInSight(index.get(name));
  else find("message").textContent = `unit ${name} is not on this page (${data.units.length} are)`;
}

for (let layer = 0; layer < model.num_layers; layer++) find("layer").append(element("option", { value: layer }, layer));
find("unit").max = model.hidden_size - 1;
for (const id of ["layer", "unit"])
  find(id).addEventListener("change", () => chooseNamed(`${find("layer").value}:${Number(find("unit").value)}`));
find("previous").addEventListener("click", () => chooseInSight(chosen - 1));
find("next").addEventListener("click", () => chooseInSight(chosen + 1));
for (const id of ["colour", "stretch"]) find(id).addEventListener("change", recolour);
find("chooser").addEventListener("submit", (event) => event.preventDefault());

// ---- the readout of a symbol
function read(place) {
  if (place === null) return;
  if (here !== null) spans[here].classList.remove("here");
  here = place;
  spans[here].classList.add("here");
  const [layer, unit] = data.units[chosen];
  const value = (activations[place] - levels.zero) * levels.steps[chosen];
  const nats = surprisal[place];
  const list = element("dl", { class: "numbers" });
  const line = (name, content) => list.append(element("dt", {}, name), element("dd", { class: "symbol" }, content));
  line("symbol", symbol(data.tokens[place]) + (data.unknown.includes(place) ? "  <unk> to the model" : ""));
  line("token", `${place + 1} of ${spans.length}`);
  line("surprisal", Number.isNaN(nats) ? "not scored: the first" : `${nats.toFixed(3)} nats, p ${percent(Math.exp(-nats))}`);
  line(`unit ${layer}:${unit}`, value.toFixed(3));
  const after = element("div", { id: "likeliest" });
  for (let rank = 0; rank < likeliest.count; rank++) {
    const at = place * likeliest.count + rank;
    const share = probabilities[at] / 65535;
    const name = likeliest.names[guesses[at]];
    const came = name === data.tokens[place + 1] ? "guess came" : "guess";
    const bar = element("span", {}, element("div", { class: "bar", style: `width: ${(100 * share).toFixed(1)}%` }));
    const guess = element("div", { class: came }, element("span", { class: "symbol" }, symbol(name)), bar);
    guess.append(element("span", { class: "share numbers" }, percent(share)));
    after.append(guess);
  }
  find("readout").replaceChildren(list, element("p", { class: "hint" }, "likeliest after it:"), after);
}

function percent(share) {
  return share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

for (const event of ["mouseover", "click"])
  area.addEventListener(event, ({ target }) => {
    if (target.place !== undefined) read(target.place);
    if (event === "click") find("readout").scrollIntoView({ block: "nearest" }); // below the text on a narrow screen
  });
area.addEventListener("focus", () => read(here ?? 0));
area.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  read(Math.max(0, Math.min(spans.length - 1, (here ?? -1) + step)));
  spans[here].scrollIntoView({ block: "nearest" });
});

// ---- the most interpretable units
find("rankings").append(
  element("p", { class: "hint" }, "layer:unit, and how well its h tells the property: ±1 always, 0 not at all; − where it is low there."),
);
const isByChance = (score, { chance }) => Math.abs(score) <= chance;
for (const each of data.properties) {
  const list = element("ol");
  for (const [layer, unit, score] of each.units) {
    const name = `${layer}:${unit}`;
    const button = element("button", { type: "button", "data-unit": name, "aria-pressed": "false" });
    button.textContent = `${name}  ${score < 0 ? "−" : "+"}${Math.abs(score).toFixed(2)}`;
    if (isByChance(score, each)) button.className = "by-chance";
    button.disabled = !index.has(name);
    list.append(element("li", {}, button));
  }
  find("rankings").append(
    element("h3", {}, visible(each.name)),
    element("details", { class: "rule" }, element("summary", {}, `by chance up to ${each.chance.toFixed(2)}`), visible(each.rule)),
  );
  if (each.units.every(([, , score]) => isByChance(score, each)))
    find("rankings").append(element("p", { class: "hint" }, "no unit beats chance here"));
  find("rankings").append(list);
}
const marks = [[".by-chance", "dashed: no better than chance"], [":disabled", "pale: not on this page"]];
const seen = marks.filter(([which]) => find("rankings").querySelector(`button${which}`));
if (seen.length) find("rankings").querySelector(".hint").after(element("p", { class: "hint" }, seen.map(([, told]) => told).join("; ")));
if (!data.properties.length) find("rankings").append(element("p", {}, "This text has too little of every property."));
find("rankings").addEventListener("click", ({ target }) => {
  if (target.dataset.unit) chooseNamed(target.dataset.unit);
});

// ---- gate saturation
const hue = (number) => `hsl(${Math.round(215 + 137.5 * number) % 360} 62% 52%)`;

function saturationPlot(each) {
  const size = 210, left = 48, top = 22;
  const plot = svg("svg", { width: size + left + 10, height: size + top + 40, role: "img", "aria-label": `saturation of ${each.gate}` });
  const x = (share) => left + size * share;
  const y = (share) => top + size * (1 - share);
  const label = (string, attributes) => plot.append(svg("text", attributes, string));
  plot.append(svg("rect", { class: "axis", x: left, y: top, width: size, height: size }));
  if (each.right) plot.append(svg("line", { class: "axis", "stroke-dasharray": "4 4", x1: x(0), y1: y(1), x2: x(1), y2: y(0) }));
  label(each.gate === "h" ? "h" : `gate ${each.gate}`, { x: left, y: top - 7, "font-weight": 700 });
  for (const share of [0, 0.5, 1]) {
    label(share, { class: "faint", x: x(share), y: top + size + 15, "text-anchor": "middle" });
    if (each.right) label(share, { class: "faint", x: left - 5, y: y(share) + 4, "text-anchor": "end" });
  }
  const names = each.gate !== "h" ? ["below 0.1", "above 0.9"] : each.right ? ["below −0.9", "above 0.9"] : ["h = 0", ""];
  label(`share ${names[0]}`, { x: left + size / 2, y: top + size + 32, "text-anchor": "middle" });
  if (each.right) label(`share ${names[1]}`, { "text-anchor": "middle", transform: `translate(${left - 36},${top + size / 2}) rotate(-90)` });
  each.left.forEach((shares, layer) => shares.forEach((share, unit) => {
    const other = each.right ? each.right[layer][unit] : (unit * 0.618034) % 1; // spread where there is one share only
    const name = `${layer}:${unit}`;
    const point = svg("circle", { class: "unit", cx: x(share).toFixed(1), cy: y(other).toFixed(1), r: 3, fill: hue(layer), "data-unit": name });
    point.append(svg("title", {}, `unit ${name}: ${names[0]} ${percent(share)}` + (each.right ? `, ${names[1]} ${percent(other)}` : "")));
    plot.append(point);
  }));
  return element("figure", {}, plot);
}

const gated = data.saturation[0].gate !== "h";
find("saturation-rule").textContent =
  (gated ? "Each point is a unit: in what share of the tokens its gate is almost shut (below 0.1) and almost open (above 0.9). "
    : data.saturation[0].right ? "Each point is a unit: in what share of the tokens its h is near −1 and near 1. "
      : "Each point is a unit: in what share of the tokens its h is 0; height has no meaning. ")
  + (model.num_layers > 1 ? "Colours are layers. " : "") + "A click chooses the unit. After Karpathy, Johnson and Fei-Fei (2015).";
find("saturation").append(...data.saturation.map(saturationPlot));
if (model.num_layers > 1) {
  const key = element("p", { class: "rule" });
  for (let layer = 0; layer < model.num_layers; layer++)
    key.append(element("span", { style: `color: ${hue(layer)}` }, "● "), `layer ${layer}  `);
  find("saturation").append(key);
}
find("saturation").addEventListener("click", ({ target }) => {
  if (target.dataset.unit) chooseNamed(target.dataset.unit);
});

// ---- gradient norm against distance
const { distance, lines, windows } = data.reach;
find("reach-rule").textContent =
  `The loss at one step, followed back in time: the norm of its gradient with respect to h, k tokens before, relative to k = 0. `
  + `Geometric mean over ${windows} window${windows > 1 ? "s" : ""} of this text, h of all layers. The untrained models have the same sizes. `
  + "After Bengio, Simard and Frasconi (1994) and Pascanu, Mikolov and Bengio (2013).";

function reachPlot() {
  const width = Math.min(find("reach").clientWidth, 860), height = 320;
  const narrow = width < 560; // the names then stand below
  const left = 46, top = 10, bottom = 40, right = narrow ? 10 : 190;
  const norms = lines.flatMap((line) => line.norms.filter((norm) => norm > 0));
  const high = Math.ceil(Math.log10(Math.max(...norms)));
  const low = Math.min(high - 1, Math.floor(Math.log10(Math.min(...norms))));
  const x = (k) => left + (width - left - right) * k / Math.max(1, distance);
  const y = (norm) => top + (height - top - bottom) * (high - Math.log10(norm)) / (high - low);
  const plot = svg("svg", { width, height, role: "img", "aria-label": "gradient norm against distance in time" });
  const every = Math.ceil((high - low) / 8);
  for (let power = high; power >= low; power -= every) {
    plot.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power) }));
    plot.append(svg("text", { class: "faint", x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" }, power ? `1e${power}`.replace("-", "−") : "1"));
  }
  const ticks = distance < 8 ? Array.from({ length: distance + 1 }, (_, k) => k) : [0, 1, 2, 3, 4].map((quarter) => Math.round(distance * quarter / 4));
  for (const k of ticks)
    plot.append(svg("text", { class: "faint", x: x(k), y: height - bottom + 16, "text-anchor": "middle" }, k));
  plot.append(svg("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "k, tokens back"));
  const ends = lines.map((line, number) => {
    const stop = line.norms.findIndex((norm) => norm === 0);
    const drawn = stop < 0 ? line.norms : line.norms.slice(0, stop);
    const points = drawn.map((norm, k) => `${x(k).toFixed(1)},${y(norm).toFixed(1)}`);
    const own = number === 0 ? " own" : "";
    plot.append(svg("polyline", { class: `curve${own}`, stroke: hue(number), points: points.join(" ") }));
    const last = Math.max(0, drawn.length - 1);
    return { name: line.name, number, x: x(last), y: drawn.length ? y(drawn[last]) : height - bottom };
  }).sort((a, b) => a.y - b.y);
  find("reach").replaceChildren(plot);
  if (narrow) {
    const names = lines.map((line, number) =>
      element("li", number ? {} : { class: "own" }, element("span", { style: `color: ${hue(number)}` }, "● "), visible(line.name)));
    find("reach").append(element("ul", { class: "key" }, ...names));
    return;
  }
  let free = top + 6;
  ends.forEach((end, at) => {
    end.at = Math.min(Math.max(end.y, free), height - bottom - 15 * (ends.length - 1 - at));
    free = end.at + 15;
    const fits = Math.floor((right - 26) / 7.3);
    const name = end.name.length > fits ? `${end.name.slice(0, fits - 1)}…` : end.name;
    const label = svg("text", { x: width - right + 22, y: end.at + 4, "font-weight": end.number ? 400 : 700 }, visible(name));
    label.append(svg("title", {}, visible(end.name)));
    plot.append(svg("circle", { cx: width - right + 13, cy: end.at, r: 4, fill: hue(end.number) }));
    plot.append(svg("line", { stroke: hue(end.number), "stroke-dasharray": "1 3", x1: end.x, y1: end.y, x2: width - right + 9, y2: end.at }), label);
  });
}
reachPlot();
window.addEventListener("resize", reachPlot);

// ---- the head
find("title").textContent = visible(`${model.name} reading ${text.name}`);
find("about").textContent = visible(
  `${model.cell} ${model.num_layers} × ${model.hidden_size}, ${model.parameters.toLocaleString("en")} parameters, vocabulary ${model.vocab_size} (${model.tokenizer}); `
  + `${text.characters.toLocaleString("en")} characters, ${text.tokens.toLocaleString("en")} tokens; ${data.nats_per_token.toFixed(4)} nats a token (${data.protocol})`,
);
for (const note of data.notes) find("notes").append(element("li", {}, visible(note)));
// The first property, of which the harder ones come first, that a unit tells better than by chance.
const told = data.properties.find((each) => !isByChance(each.units[0][2], each));
choose((told && index.get(`${told.units[0][0]}:${told.units[0][1]}`)) || 0);
