{% include "segments.js" %}
// The page of a server: an image goes there once, thresholds ask for its result again.
const state = { image: 0, blob: null, file: "image", result: null, maps: null, settings: [] };
let running = null, again = false, stream = null;

function settingsNow() {
  const changed = {};
  for (const one of state.settings) {
    const value = Number(byId(`set-${one.name}`).value);
    if (value !== one.value) changed[one.name] = value;
  }
  return changed;
}

// Ask about the image: by its name where the server keeps it, else by sending it again.
async function ask(answer) {
  const words = { answer, palette: byId("palette").value, ...settingsNow() };
  const { blob, image } = state;
  if (state.result) {
    const found = await fetch(`results/${state.result}?${new URLSearchParams(words)}`);
    if (found.status !== 404 || state.image !== image) return found;
    state.result = null;
  }
  const query = new URLSearchParams({ ...words, keep: "1" });
  if (state.before) query.set("replaces", state.before);
  state.before = null;
  return fetch(`predict?${query}`, { method: "POST", body: blob });
}

async function askPatiently(answer) {
  for (let tries = 0; ; tries += 1) {
    const response = await ask(answer);
    if (response.status !== 503 || tries === 5) return response;
    const seconds = Number(response.headers.get("Retry-After") ?? 1);
    byId("status").textContent = "The server is busy; trying again.";
    await new Promise((done) => setTimeout(done, 1000 * seconds));
  }
}

async function explain(response) {
  const known = response.headers.get("Content-Type") === "application/json";
  if (!known) return `The server answered with the status ${response.status}.`;
  const { error, allowed, do: todo } = await response.json();
  return `${error}. Allowed: ${allowed}. What to do: ${todo}.`;
}

// One request at a time; what changes meanwhile is asked for afterwards, once.
function refresh() {
  if (!state.blob) return null;
  again = true;
  running ??= work().finally(() => { running = null; });
  return running;
}

async function work() {
  document.body.classList.add("busy");
  while (again) {
    again = false;
    const { image } = state;
    try {
      if (!state.result) byId("status").textContent = "The network is running.";
      const response = await askPatiently("view");
      if (state.image !== image) again = true;
      else if (response.ok) show(await response.json(), image);
      else fail(await explain(response));
    } catch (error) {
      fail(`The server cannot be reached: ${error.message}`);
    }
  }
  document.body.classList.remove("busy");
}

function fail(text) {
  byId("error").textContent = text;
  byId("status").textContent = "No result.";
}

const picture = (data) => `data:image/jpeg;base64,${data}`;

function show(answer, image) {
  if (state.image !== image) return;
  const { view } = answer;
  state.result = answer.result;
  state.maps = readMaps(view);
  byId("error").textContent = "";
  byId("columns").hidden = false;
  byId("under").src = picture(view.image);
  byId("under").alt = `Image ${state.file}`;
  byId("over").src = picture(view.overlay);
  byId("over").alt = `Segments of ${state.file}`;
  for (const side of ["width", "height"]) byId("mark")[side] = view[side];
  const found = answer.segments_info.length;
  byId("status").textContent =
    `${state.file}: ${answer.width} x ${answer.height} pixels, ${found} segments.`
    + (answer.result ? "" : " Too large to be kept: every change runs the network again.");
  byId("hover").textContent = "";
  listFound(answer.segments_info);
  divide();
}

function listFound(segments) {
  const rows = segments.map((segment, k) => {
    const button = make("button", { type: "button" }, `${segment.name} #${segment.id}`);
    for (const kind of ["focus", "mouseenter"]) button.addEventListener(kind, () => mark(k + 1));
    for (const kind of ["blur", "mouseleave"]) button.addEventListener(kind, () => mark(0));
    return [button, segment.isthing ? "thing" : "stuff", segment.score.toFixed(3), segment.area,
      segment.bbox.join(", ")];
  });
  byId("table").replaceChildren(
    makeTable(["segment", "kind", "score", "pixels", "box (x, y, w, h)"], rows));
}

// Darken everything but one segment; 0 takes the mark away.
function mark(number) {
  const canvas = byId("mark");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!number || !state.maps) return;
  const [side] = state.maps.sides;
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let k = 0; k < side.map.length; k += 1)
    if (side.map[k] !== number) pixels.data[4 * k + 3] = 170;
  context.putImageData(pixels, 0, 0);
  byId("hover").textContent = `prediction: ${describeSegment(side.segments[number - 1])}`;
}

function divide() {
  const part = Number(byId("divide").value);
  byId("over").style.clipPath = `inset(0 0 0 ${part}%)`;
  byId("line").style.left = `${part}%`;
  byId("line").hidden = part === 0;
}

function take(blob, name) {
  state.image += 1;
  state.blob = blob;
  state.file = name;
  state.before = state.result ?? state.before;
  state.result = null;
  return refresh();
}

async function download(answer) {
  const response = await askPatiently(answer);
  if (!response.ok) return fail(await explain(response));
  const stem = state.file.replace(/\.[^.]*$/, "");
  let blob = await response.blob();
  let name = `${stem}_${answer === "png" ? "panoptic" : "overlay"}.png`;
  if (answer === "json") {
    name = `${stem}_panoptic.json`;
    blob = new Blob([describeFile(JSON.parse(await blob.text()), stem)],
      { type: "application/json" });
  }
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  byId("status").textContent = `${name} downloaded.`;
}

// A file in COCO's panoptic format, as PanopticResult.save writes it.
function describeFile(answer, stem) {
  const { width, height, categories, settings } = answer;
  const keys = ["id", "category_id", "isthing", "score", "area", "bbox"];
  const segments = answer.segments_info.map(
    (segment) => Object.fromEntries(keys.map((key) => [key, segment[key]])));
  const entry = { id: stem, file_name: state.file, height, width };
  const annotation = {
    image_id: stem, file_name: `${stem}_panoptic.png`, segments_info: segments,
  };
  const content = { images: [entry], annotations: [annotation], categories, settings };
  return `${JSON.stringify(content, null, 1)}\n`;
}

// ---- webcam: a frame is sent when the one before is answered ----------------------------------

async function watch() {
  const video = byId("video");
  const canvas = make("canvas", {});
  for (let frame = 1; stream; frame += 1) {
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    if (blob) await take(blob, `webcam_${frame}.jpg`);
    await new Promise((done) => setTimeout(done, byId("error").textContent ? 1000 : 30));
  }
}

function stopWebcam() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  byId("video").hidden = true;
  byId("webcam").textContent = "Start the webcam";
  byId("webcam").setAttribute("aria-pressed", "false");
}

async function startWebcam() {
  if (!navigator.mediaDevices)
    return fail("Browsers give the webcam to https and to localhost only");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    return fail(`The webcam is not to be had: ${error.message}`);
  }
  const video = byId("video");
  video.srcObject = stream;
  video.hidden = false;
  byId("webcam").textContent = "Stop the webcam";
  byId("webcam").setAttribute("aria-pressed", "true");
  await video.play();
  return watch();
}

// ---- set-up -----------------------------------------------------------------------------------

function addSlider(setting) {
  const id = `set-${setting.name}`;
  const shown = make("output", {}, String(setting.value));
  shown.setAttribute("for", id);
  const slider = make("input", {
    type: "range", id, min: setting.low, max: setting.high, step: setting.step,
  });
  slider.value = setting.value;
  slider.setAttribute("aria-describedby", `${id}-meaning`);
  slider.addEventListener("input", () => {
    shown.textContent = slider.value;
    refresh();
  });
  const label = make("label", { htmlFor: id }, setting.name);
  byId("settings").append(make("div", {}, shown, label, slider,
    make("p", { id: `${id}-meaning` }, setting.meaning)));
}

function takeFile(file) {
  if (!file) return;
  stopWebcam();
  take(file, file.name || "image.png");
}

async function start() {
  const model = await (await fetch("model")).json();
  state.settings = model.settings;
  model.settings.forEach(addSlider);
  byId("palette").append(...model.palettes.map((name) => new Option(name, name)));
  byId("palette").value = model.palette;
  const names = model.categories.map((one) => one.name);
  const some = names.length > 12 ? `${names.slice(0, 12).join(", ")}, ...` : names.join(", ");
  byId("about").append(` ${names.length} classes: ${some}.`);
}

for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") takeFile(event.dataTransfer.files[0]);
  });
document.addEventListener("paste", (event) => takeFile(event.clipboardData.files[0]));
byId("file").addEventListener("change", (event) => takeFile(event.target.files[0]));
byId("webcam").addEventListener("click", () => (stream ? stopWebcam() : startWebcam()));
byId("divide").addEventListener("input", divide);
byId("palette").addEventListener("change", refresh);
byId("settings").addEventListener("submit", (event) => event.preventDefault());
byId("reset").addEventListener("click", () => {
  for (const one of state.settings) {
    const slider = byId(`set-${one.name}`);
    slider.value = one.value;
    slider.parentElement.querySelector("output").textContent = slider.value;
  }
  refresh();
});
byId("stage").addEventListener("mousemove", (event) => {
  const text = state.maps && nameSegmentsAt(state.maps, byId("under"), event);
  if (text) byId("hover").textContent = text;
});
for (const button of document.querySelectorAll("#downloads button"))
  button.addEventListener("click", () => download(button.dataset.answer));
start().catch((error) => fail(`The server cannot be reached: ${error.message}`));
