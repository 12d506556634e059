// Charts that can be explored, by Vega: settings are picked in the list above them and kept in the address (#settings=...).
// Without this script the still figures and tables say the same.
const exploreRoot = document.getElementById("explore");
const exploreData = JSON.parse(document.getElementById("explore-data").textContent);
const picks = exploreRoot.querySelector(".picks");
const known = exploreData.legend.map((one) => one.label);
const scheme = matchMedia("(prefers-color-scheme: dark)");
const chosen = new Set();
let views = [];

const restorePicks = () => {
  chosen.clear();
  const asked = address.all("settings").flatMap((value) => (known.includes(value) ? [value] : value.split("|")));
  for (const name of asked.filter((name) => known.includes(name))) chosen.add(name);
};

const show = () => {
  for (const button of picks.querySelectorAll("button[data-setting]")) {
    button.setAttribute("aria-pressed", String(chosen.has(button.dataset.setting)));
  }
  for (const row of document.querySelectorAll("tr[data-setting]")) {
    row.classList.toggle("picked", chosen.has(row.dataset.setting));
  }
  for (const view of views) view.signal("pick", [...chosen]).runAsync();
};

const pick = (names) => {
  for (const name of names) if (!chosen.delete(name)) chosen.add(name);
  address.put({ settings: [...chosen] });
  show();
};

picks.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) pick(button.dataset.setting ? [button.dataset.setting] : [...chosen]);
});

const tipTable = (values, sanitize) => {
  const told = Object.entries(values).filter(([name, value]) => !name.startsWith("_") && value !== null);
  const cells = ([name, value]) => `<td class="key">${sanitize(name.replaceAll("_", " "))}</td><td class="value">${sanitize(value)}</td>`;
  return `<table>${told.map((one) => `<tr>${cells(one)}</tr>`).join("")}</table>`;
};

const draw = async () => {
  const style = getComputedStyle(document.documentElement);
  const [ink, muted, line] = ["--ink", "--muted", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal" };
  const config = {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: { ...axis, labelFontSize: 12, titleFontSize: 12 },
    text: { color: ink },
    rule: { color: line },
  };
  const colours = exploreData.legend.map((one) => (scheme.matches ? one.dark : one.tone));
  const specs = JSON.stringify(exploreData.charts.map((chart) => chart.spec)).replaceAll(
    '"scale":{"domain":[],"range":[]}',
    `"scale":${JSON.stringify({ domain: known, range: colours })}`,
  );
  const places = [...exploreRoot.querySelectorAll(".chart")];
  views.forEach((view) => view.finalize());
  const tooltip = { theme: scheme.matches ? "dark" : "light", formatTooltip: tipTable };
  // ast: expressions are interpreted, so the page's policy can forbid eval; a canvas stays quick with thousands of points
  const options = { mode: "vega-lite", renderer: "canvas", ast: true, actions: false, config, tooltip };
  const made = await Promise.all(JSON.parse(specs).map((spec, n) => vegaEmbed(places[n], spec, options)));
  views = made.map((one) => one.view);
  for (const view of views) {
    view.addEventListener("click", (_event, item) => {
      const name = item?.datum?.setting ?? item?.datum?.datum?.setting;
      if (known.includes(name)) pick([name]);
    });
  }
  show();
  exploreRoot.dataset.ready = "true";
};

exploreRoot.hidden = false;
addEventListener("hashchange", () => {
  restorePicks();
  show();
});
restorePicks();
scheme.addEventListener("change", draw);
draw();
