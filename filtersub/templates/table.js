// Click a heading to sort its table; type or choose above it to filter. Without this script the table is simply whole.
const cellText = (cell, kind) => cell.dataset[kind] ?? cell.dataset.value ?? cell.textContent.trim();

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead button").forEach((button) => {
    const heading = button.closest("th");
    const column = [...heading.parentNode.children].indexOf(heading);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => cellText(row.children[column], "value");
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1; // what is missing comes last
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    });
  });

  const form = document.querySelector(`form[data-table="${table.id}"]`);
  if (!form) continue;
  form.hidden = false;
  const told = form.querySelector("output");
  const rows = [...table.tBodies[0].rows];
  const filter = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...form.querySelectorAll("select")].filter((select) => select.value !== "*");
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        !words.every((word) => text.includes(word)) ||
        !chosen.every((select) => cellText(row.children[select.dataset.column], "filter") === select.value);
    }
    const left = rows.filter((row) => !row.hidden).length;
    told.textContent = left === rows.length ? `${left} runs` : `${left} of ${rows.length} runs`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
