// Makes column headers buttons that sort: ascending, descending, then the first order again.
(() => {
  const NOTHING = /^[–-]?$/;
  const NUMBER = /^(?:[<>+]\s*)?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![A-Za-z_])/i;
  const textOf = (row, column) => row.children[column].textContent.trim();
  const numberOf = (text) => {
    const found = text.replace(/−/g, "-").replace(/,(?=\d{3})/g, "").match(NUMBER);
    return found ? parseFloat(found[1]) : NaN;
  };
  const sorted = (rows, column, sign) => {
    const known = rows.filter((row) => !NOTHING.test(textOf(row, column)));
    const unknown = rows.filter((row) => NOTHING.test(textOf(row, column)));
    const numeric = known.every((row) => !isNaN(numberOf(textOf(row, column))));
    const compare = (a, b) => {
      const [x, y] = [textOf(a, column), textOf(b, column)];
      const byNumber = numeric ? numberOf(x) - numberOf(y) : 0;
      return byNumber || x.localeCompare(y, "en", { numeric: true });
    };
    return [...known.sort((a, b) => sign * compare(a, b)), ...unknown];
  };
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const order = NEXT[head.getAttribute("aria-sort") || "none"];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order !== "none") head.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        body.append(...(order === "none" ? original : sorted([...original], column, sign)));
      });
    });
  }
})();
