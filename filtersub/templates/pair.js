// Two runs beside each other, ticked in the table of runs and kept in the address (#pair=...&pair=...).
const pairData = JSON.parse(document.getElementById("pair-data").textContent);
const pairRoot = document.getElementById("pair");
const pairTable = document.getElementById("pair-table");
const pairBoxes = [...document.querySelectorAll("input.pair")];
const pairChart = pairRoot.querySelector(".chart");
const pairAtoms = document.getElementById("pair-atoms");
let pair = [];

const pairRow = (tag, texts, name = "") => {
  const row = document.createElement("tr");
  row.className = name;
  texts.forEach((text, n) => {
    const cell = document.createElement(n ? tag : "th");
    if (cell.tagName === "TH") cell.scope = tag === "th" ? "col" : "row";
    if (n === 0) cell.className = "text";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
};

const pairText = (value) => {
  if (value === null) return "–";
  if (typeof value !== "number") return value;
  const digits = Number.isInteger(value) ? {} : { maximumSignificantDigits: 6 };
  return value.toLocaleString("en", digits).replace("-", "−");
};

const pairGap = (a, b) => {
  if (a === b) return "";
  if (typeof a !== "number" || typeof b !== "number") return "≠";
  const whole = Number.isInteger(a) && Number.isInteger(b);
  const gap = whole ? b - a : Number((b - a).toPrecision(4)); // differences of rounded numbers end in noise
  return `≠ ${gap > 0 ? "+" : ""}${pairText(gap)}`;
};

const showPair = () => {
  for (const box of pairBoxes) box.checked = pair.includes(box.value);
  pairRoot.hidden = pair.length < 2;
  if (pairRoot.hidden) return;
  const [a, b] = pair.map((id) => pairData.runs[id]);
  const body = [];
  pairData.names.forEach(([group, name], n) => {
    if (group !== pairData.names[n - 1]?.[0]) body.push(pairRow("td", [group, "", "", ""], "group"));
    const [x, y] = [a.values[n], b.values[n]];
    if (x === null && y === null) return;
    body.push(pairRow("td", [name, pairText(x), pairText(y), pairGap(x, y)], x === y ? "same" : ""));
  });
  pairTable.tHead.replaceChildren(pairRow("th", ["What", `A: ${a.title}`, `B: ${b.title}`, "Difference"]));
  pairTable.tBodies[0].replaceChildren(...body);
  drawPair();
  drawAtoms();
};

const drawPair = () => {
  if (!exploreData.pair || pairRoot.hidden) return;
  const spec = structuredClone(exploreData.pair);
  const curves = exploreData.charts[1].spec.data.values;
  spec.data.values = curves
    .filter((one) => pair.includes(one._id))
    .map((one) => ({ ...one, run: pair[0] === one._id ? "A" : "B" }));
  pairChart.hidden = spec.data.values.length === 0;
  if (!pairChart.hidden) embed(pairChart, spec);
};

const drawAtoms = () => {
  if (!exploreData.pairAtoms || pairRoot.hidden) return;
  const spec = structuredClone(exploreData.pairAtoms);
  const known = exploreData.charts[exploreData.atoms].spec.data.values.filter((one) => pair.includes(one._id));
  const layers = [...new Set(known.map((one) => one.layer))];
  pairAtoms.hidden = known.length === 0;
  pairAtoms.previousElementSibling.hidden = known.length > 0;
  if (pairAtoms.hidden) return;
  spec.data.values = known.map((one) => ({ ...one, _side: pair[0] === one._id ? "A" : "B" }));
  const choice = spec.params.find((param) => param.name === "of_layer");
  choice.bind.options = layers;
  if (!layers.includes(choice.value)) choice.value = layers[0];
  embed(pairAtoms, spec);
};

const choosePair = (ids) => {
  pair = ids.slice(-2); // a third run takes the place of the first
  address.put({ pair });
  showPair();
};

const restorePair = () => {
  pair = [...new Set(address.all("pair"))].filter((id) => Object.hasOwn(pairData.runs, id)).slice(0, 2);
  showPair();
};

for (const box of pairBoxes) {
  box.hidden = false;
  box.addEventListener("change", () => {
    choosePair(box.checked ? [...pair, box.value] : pair.filter((id) => id !== box.value));
    if (box.checked && pair.length === 2) pairRoot.querySelector("h3").focus(); // scrolls there
  });
}
document.getElementById("pair-close").addEventListener("click", () => choosePair([]));
document.querySelector(".ask").hidden = false;
scheme.addEventListener("change", drawPair);
scheme.addEventListener("change", drawAtoms);
pairAtoms.hidden = !exploreData.pairAtoms;
addEventListener("hashchange", restorePair);
restorePair();
