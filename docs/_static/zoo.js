// Sorts the table of the model zoo by the column that is clicked, and filters its rows.
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".zoo")) {
    const body = box.querySelector("tbody");
    const filter = document.createElement("input");
    filter.type = "search";
    filter.placeholder = "Filter: words that a row must contain, such as cityscapes r52";
    filter.setAttribute("aria-label", "Filter models");
    box.before(filter);
    filter.className = "zoo-filter";
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/);
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    box.querySelectorAll("th").forEach((head, column) => {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        box.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[column].textContent;
        const compare = (a, b) => {
          if ((a === "—") !== (b === "—")) return a === "—" ? 1 : -1; // at the end both ways
          const numbers = [parseFloat(a), parseFloat(b)];
          const order = numbers.some(isNaN) ? a.localeCompare(b) : numbers[0] - numbers[1];
          return down ? -order : order;
        };
        const rows = [...body.rows].sort((a, b) => compare(value(a), value(b)));
        body.append(...rows);
      });
    });
  }
});
