// Click a heading to sort its table; type, choose and pick columns above it. The address keeps all that. Without this script the
// table is simply whole.
const cellText = (cell, kind) => cell.dataset[kind] ?? cell.dataset.value ?? cell.textContent.trim();

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const form = document.querySelector(`form[data-table="${table.id}"]`);
  const choices = form ? [...form.querySelectorAll("select")] : [];
  const boxes = form ? [...form.querySelectorAll("input[type=checkbox]")] : [];
  const key = (name) => `${table.id}.${name}`;

  const sort = (column, down) => {
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    if (column < 0) return table.tBodies[0].append(...rows);
    headings[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => cellText(row.cells[column], "value");
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1; // what is missing comes last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    };
    table.tBodies[0].append(...[...rows].sort(compare));
  };

  const filter = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = choices.filter((select) => select.value !== "*");
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        !words.every((word) => text.includes(word)) ||
        !chosen.every((select) => cellText(row.cells[select.dataset.column], "filter") === select.value);
    }
    const left = rows.filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = left === rows.length ? `${left} runs` : `${left} of ${rows.length} runs`;
    for (const box of boxes) {
      for (const row of table.rows) row.cells[box.dataset.column].hidden = !box.checked;
    }
  };

  const keep = () => {
    const sorted = headings.find((heading) => heading.hasAttribute("aria-sort"));
    const sign = sorted?.getAttribute("aria-sort") === "descending" ? "-" : "";
    const values = { [key("sort")]: sorted ? [sign + sorted.dataset.name] : [] };
    if (form) {
      const words = form.elements.words.value.trim();
      values[key("words")] = words ? [words] : [];
      values[key("hide")] = boxes.filter((box) => !box.checked).map((box) => box.dataset.name);
      for (const select of choices) values[key(`is.${select.dataset.name}`)] = select.value === "*" ? [] : [select.value];
    }
    address.put(values);
  };

  const restore = () => {
    const [order = ""] = address.all(key("sort"));
    sort(headings.findIndex((heading) => heading.dataset.name === order.replace(/^-/, "")), order.startsWith("-"));
    if (!form) return;
    form.elements.words.value = address.all(key("words"))[0] ?? "";
    for (const select of choices) {
      const [wanted] = address.all(key(`is.${select.dataset.name}`));
      select.value = [...select.options].some((option) => option.value === wanted) ? wanted : "*";
    }
    for (const box of boxes) box.checked = !address.all(key("hide")).includes(box.dataset.name);
    filter();
  };

  headings.forEach((heading, column) =>
    heading.querySelector("button")?.addEventListener("click", () => {
      sort(column, heading.getAttribute("aria-sort") === "ascending");
      keep();
    }),
  );
  if (form) {
    const changed = () => {
      filter();
      keep();
    };
    form.hidden = false;
    form.addEventListener("input", changed);
    form.addEventListener("reset", () => setTimeout(changed));
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  addEventListener("hashchange", restore);
  restore();
}
