// A table.sortable is sorted by the column whose heading is pressed; pressed again, the other way round. Cells with a
// data-value are compared as numbers and come last where it is empty; the others are compared as text.
"use strict";

(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];

    const key = (row, column) => {
      const cell = row.cells[column];
      if (!("value" in cell.dataset)) return cell.textContent.trim();
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };

    function sort(column, sign) {
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      });
      body.append(...rows.map(([, row]) => row));
      headings.forEach((heading, at) => {
        if (at === column) heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        else heading.removeAttribute("aria-sort");
      });
    }

    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const first = heading.dataset.first === "most" ? -1 : 1;
        const up = heading.getAttribute("aria-sort") === "ascending";
        sort(column, heading.hasAttribute("aria-sort") ? (up ? -1 : 1) : first);
      });
    });
  }
})();
