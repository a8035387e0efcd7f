for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  const value = row => row.cells[head.cellIndex].dataset.value;
  const text = row => row.cells[head.cellIndex].textContent;
  const unknown = row => value(row) === "nan";
  const rows = [...body.rows].sort((a, b) => unknown(a) - unknown(b) || (up ? 1 : -1) *
    (value(a) === undefined ? text(a).localeCompare(text(b)) : value(a) - value(b)));
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows);
};
