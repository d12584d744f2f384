// Shows pictures one by one. A picture is {name, layers: [[title, file], ...], segments: file}.
const viewer = { pictures: () => [], at: 0, maps: {}, left: 0, right: 2 };

function showPicture(position) {
  const list = viewer.pictures();
  if (!list.length) return;
  viewer.at = (position + list.length) % list.length;
  const picture = list[viewer.at];
  byId("viewer-name").textContent = `${picture.name} (${viewer.at + 1} of ${list.length})`;
  const several = picture.layers.length > 1;
  byId("viewer-layers").hidden = !several;
  for (const side of ["left", "right"]) {
    viewer[side] = Math.min(viewer[side], picture.layers.length - 1);
    const options = picture.layers.map(([title], k) => new Option(title, k));
    byId(`viewer-${side}`).replaceChildren(...options);
    byId(`viewer-${side}`).value = viewer[side];
  }
  byId("hover").textContent = "";
  byId("viewer-segments").replaceChildren();
  drawLayers();
  loadSegments(picture);
  if (!byId("viewer").open) byId("viewer").showModal();
}

function drawLayers() {
  const picture = viewer.pictures()[viewer.at];
  for (const [id, side] of [["viewer-under", "left"], ["viewer-over", "right"]]) {
    const [title, file] = picture.layers[viewer[side]];
    byId(id).src = file;
    byId(id).alt = `${title} of ${picture.name}`;
  }
  const part = picture.layers.length > 1 ? Number(byId("viewer-divide").value) : 0;
  byId("viewer-over").style.clipPath = `inset(0 0 0 ${part}%)`;
  document.querySelector(".stage .line").style.left = `${part}%`;
}

function chooseLayer(side, layer) {
  viewer[side] = Number(layer);
  byId(`viewer-${side}`).value = layer;
  drawLayers();
}

// Segments come as scripts: pages of the file system may not read other files.
function loadSegments(picture) {
  if (!picture.segments) return;
  if (picture.segments in viewer.maps) return listSegments(picture);
  const script = make("script", { src: picture.segments });
  script.onload = () => { script.remove(); listSegments(picture); };
  document.head.append(script);
}

function segmentMaps(file, content) {
  viewer.maps[file] = readMaps(content);
}

function listSegments(picture) {
  if (viewer.pictures()[viewer.at] !== picture) return;
  const rows = viewer.maps[picture.segments].sides.flatMap((side) => side.segments
    .filter((segment) => segment[4])
    .map((segment) => [side.name, ...segment]));
  if (!rows.length) return;
  const names = ["side", "class", "segment", "pixels", "score", "error"];
  byId("viewer-segments").replaceChildren(makeTable(names, rows));
}

function nameSegments(event) {
  const content = viewer.maps[viewer.pictures()[viewer.at]?.segments];
  if (!content) return;
  const text = nameSegmentsAt(content, byId("viewer-under"), event);
  if (text !== null) byId("hover").textContent = text;
}

function onKey(event) {
  if (!byId("viewer").open || event.ctrlKey || event.altKey || event.metaKey) return;
  const inField = ["INPUT", "SELECT"].includes(event.target.tagName);
  if (event.key === "ArrowRight" && !inField) showPicture(viewer.at + 1);
  else if (event.key === "ArrowLeft" && !inField) showPicture(viewer.at - 1);
  else if (/^[1-9]$/.test(event.key)) {
    const layer = Number(event.key) - 1;
    if (layer < viewer.pictures()[viewer.at].layers.length) chooseLayer("right", layer);
  } else return;
  event.preventDefault();
}

byId("viewer-previous").addEventListener("click", () => showPicture(viewer.at - 1));
byId("viewer-next").addEventListener("click", () => showPicture(viewer.at + 1));
byId("viewer-close").addEventListener("click", () => byId("viewer").close());
byId("viewer-divide").addEventListener("input", drawLayers);
for (const side of ["left", "right"])
  byId(`viewer-${side}`).addEventListener("change", (e) => chooseLayer(side, e.target.value));
document.querySelector(".stage").addEventListener("mousemove", nameSegments);
document.addEventListener("keydown", onKey);
