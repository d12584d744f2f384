// An image is [name, loss, PQ or null, codes of errors]; a code is (kind * classes + class) * sizes + size.
const data = JSON.parse(byId("data").textContent);
const number = (n) => String(n).padStart(5, "0");
const pictures = data.images.map(([name, loss, pq, codes], k) => ({
  name, loss, pq, codes,
  layers: ["image", "truth", "prediction", "difference"]
    .map((kind) => [kind, `images/${number(k)}_${kind}.jpg`]),
  segments: `images/${number(k)}.js`,
}));
const BLOCK = 120;
let chosen = [], shownCards = 0;

function fits(picture) {
  const [kind, label, size] = ["kind", "class", "size"].map((f) => byId(`filter-${f}`).value);
  if (kind === "" && label === "" && size === "") return true;
  return picture.codes.some((code) => {
    const ofClass = Math.floor(code / data.sizes);
    return (size === "" || code % data.sizes === Number(size))
      && (label === "" || ofClass % data.classes === Number(label))
      && (kind === "" || Math.floor(ofClass / data.classes) === Number(kind));
  });
}

function choose() {
  const order = byId("order").value;
  chosen = pictures.filter(fits);
  if (order === "pq") chosen.sort((a, b) => (a.pq ?? 101) - (b.pq ?? 101));
  if (order === "name") chosen.sort((a, b) => (a.name < b.name ? -1 : 1));
  byId("cards").replaceChildren();
  shownCards = 0;
  byId("count").textContent = `${chosen.length} of ${pictures.length} images`;
  addCards();
}

function addCards() {
  const block = chosen.slice(shownCards, shownCards + BLOCK).map((picture, k) => {
    const position = shownCards + k;
    const image = make("img", {
      src: picture.layers[2][1].replace("_prediction", "_thumb"), alt: "", loading: "lazy",
    });
    const pq = picture.pq === null ? "" : `, PQ ${picture.pq.toFixed(1)}`;
    const caption = make("span", {}, `${picture.name}: loss ${picture.loss.toFixed(3)}${pq}`);
    const button = make("button", { type: "button" }, image, caption);
    button.addEventListener("click", () => {
      viewer.pictures = () => chosen;
      showPicture(position);
    });
    return make("li", {}, button);
  });
  byId("cards").append(...block);
  shownCards += block.length;
}

new IntersectionObserver((entries) => {
  if (entries[0].isIntersecting && shownCards < chosen.length) addCards();
}, { rootMargin: "800px" }).observe(byId("more"));
for (const id of ["filter-class", "filter-kind", "filter-size", "order"])
  byId(id).addEventListener("change", choose);
for (const button of document.querySelectorAll("button.open"))
  button.addEventListener("click", () => {
    viewer.pictures = () => pictures;
    showPicture(Number(button.dataset.image));
  });

byId("export").addEventListener("click", () => {
  const rows = [...document.querySelectorAll("#suspect-table tbody tr")].map((row) => ({
    ...data.suspects[Number(row.dataset.row)], verdict: row.querySelector("select").value,
  }));
  const file = new Blob([JSON.stringify(rows, null, 1)], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(file), download: "suspects.json" });
  link.click();
  URL.revokeObjectURL(link.href);
  byId("exported").textContent = `${rows.length} rows exported`;
});
choose();
