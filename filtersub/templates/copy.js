// Buttons that copy: a table as Markdown or LaTeX (only the rows and columns that are shown), the command that repeats a run.
const shownCells = (table) =>
  [...table.rows]
    .filter((row) => !row.hidden)
    .map((row) => [...row.cells].filter((cell) => !cell.hidden && !cell.classList.contains("repeat")))
    .map((cells) => cells.map((cell) => cell.innerText.trim().replaceAll("\u00a0", " ").replace(/\s+/g, " ")));

const FORMATS = {
  markdown: (rows) => {
    const line = (cells) => `| ${cells.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
    return [line(rows[0]), line(rows[0].map(() => "---")), ...rows.slice(1).map(line)].join("\n");
  },
  latex: (rows) => {
    const special = { "\\": "\\textbackslash{}", "×": "$\\times$", "–": "--", "−": "$-$", "→": "$\\to$", "₁": "$_1$" };
    const plain = (text) =>
      text.replace(/[\\&%$#_{}×–−→₁]/g, (letter) => special[letter] ?? `\\${letter}`);
    const line = (cells) => `${cells.map(plain).join(" & ")} \\\\`;
    const [head, ...body] = rows;
    return [
      `\\begin{tabular}{l${"r".repeat(head.length - 1)}}`,
      "\\toprule", line(head), "\\midrule", ...body.map(line), "\\bottomrule", "\\end{tabular}",
    ].join("\n");
  },
};

const copyText = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(document.createElement("textarea")); // where a browser offers no clipboard
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
};

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const { format, table, command } = button.dataset;
    await copyText(command ?? FORMATS[format](shownCells(document.getElementById(table))));
    const words = button.textContent;
    button.textContent = "copied";
    setTimeout(() => (button.textContent = words), 1500);
  });
}
