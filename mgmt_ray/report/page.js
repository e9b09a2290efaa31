// Opens what is folded where a link leads to it, and all of it in print; explains the glossary's
// terms on hover; makes column headers buttons that sort: up, down, then the first order again.
(() => {
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    target.querySelector(":scope > details")?.setAttribute("open", "");
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      addEventListener("afterprint", () => { details.open = false; }, { once: true });
    }
  });
  const meanings = new Map([...document.querySelectorAll("#glossary dt")].map(
    (term) => [term.textContent.trim(), term.nextElementSibling.textContent.trim()]));
  if (meanings.size) {
    const names = [...meanings.keys()].sort((a, b) => b.length - a.length)
      .map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const term = new RegExp(`(?<![\\w-])(${names.join("|")})(?![\\w-])`);
    const explain = (text) => {
      const found = text.data.match(term);
      if (!found) return;
      const word = text.splitText(found.index);
      const rest = word.splitText(found[1].length);
      const abbr = document.createElement("abbr");
      abbr.title = meanings.get(found[1]);
      word.replaceWith(abbr);
      abbr.append(word);
      explain(rest);
    };
    for (const block of document.querySelectorAll("main p, main li, main dd, thead th, caption, figcaption")) {
      if (block.closest("#glossary")) continue;
      const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
      const texts = [];
      while (walker.nextNode()) texts.push(walker.currentNode);
      texts.filter((text) => !text.parentElement.closest("code, abbr")).forEach(explain);
    }
  }

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
