// Charts that can be explored, by Vega: settings are picked in the list above them and kept in the address (#settings=...).
// Without this script the still figures and tables say the same.
const exploreRoot = document.getElementById("explore");
const exploreData = JSON.parse(document.getElementById("explore-data").textContent);
const picks = exploreRoot.querySelector(".picks");
const known = exploreData.legend.map((one) => one.label);
const scheme = matchMedia("(prefers-color-scheme: dark)");
const chosen = new Set();
const places = [...exploreRoot.querySelectorAll(".chart")];
const views = new Map(); // of the charts drawn so far, by their places

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
  for (const view of views.values()) view.signal("pick", [...chosen]).runAsync();
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

const chartConfig = () => {
  const style = getComputedStyle(document.documentElement);
  const [ink, muted, line] = ["--ink", "--muted", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal" };
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: { ...axis, labelFontSize: 12, titleFontSize: 12 },
    text: { color: ink },
    rule: { color: line },
    legend: { labelColor: ink, labelFontSize: 12 },
  };
};

// d3's of English, but for the space in 98.5 %, as on the rest of the page
const formatLocale = { decimal: ".", thousands: ",", grouping: [3], currency: ["$", ""], percent: "\u00a0%" };

// ast: expressions are interpreted, so the page's policy can forbid eval; a canvas stays quick with thousands of points
const embed = async (place, spec) => {
  views.get(place)?.finalize();
  const tooltip = { theme: scheme.matches ? "dark" : "light", formatTooltip: tipTable };
  const shown = { config: chartConfig(), formatLocale, tooltip };
  const options = { mode: "vega-lite", renderer: "canvas", ast: true, actions: false, ...shown };
  const { view } = await vegaEmbed(place, spec, options);
  views.set(place, view);
  view.signal("pick", [...chosen]).runAsync();
  place.dataset.ready = "true";
  return view;
};

const draw = async (place) => {
  const colours = exploreData.legend.map((one) => (scheme.matches ? one.dark : one.tone));
  const spec = JSON.stringify(exploreData.charts[places.indexOf(place)].spec).replaceAll(
    '"scale":{"domain":[],"range":[]}',
    `"scale":${JSON.stringify({ domain: known, range: colours })}`,
  );
  const view = await embed(place, JSON.parse(spec));
  view.addEventListener("click", (_event, item) => {
    const name = item?.datum?.setting ?? item?.datum?.datum?.setting;
    if (known.includes(name)) pick([name]);
  });
};

// a chart is drawn when it comes near the screen, so that a page of many runs opens at once
const near = new IntersectionObserver(
  (entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(target);
      draw(target);
    }
  },
  { rootMargin: "400px" },
);

exploreRoot.hidden = false;
scheme.addEventListener("change", () => places.filter((place) => views.has(place)).forEach(draw));
addEventListener("hashchange", () => {
  restorePicks();
  show();
});
restorePicks();
show();
places.forEach((place) => near.observe(place));
exploreRoot.dataset.ready = "true";
