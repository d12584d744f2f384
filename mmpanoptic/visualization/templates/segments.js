"use strict";
// Maps of segments: {width, height, sides: [{name, runs, segments: [[class, id, pixels, score, error], ...]}]}.
const byId = (id) => document.getElementById(id);
const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Turn the runs of every side into a map: 0 is void, k the k-th segment.
function readMaps(content) {
  for (const side of content.sides) {
    const runs = side.runs;
    const map = new Uint16Array(content.width * content.height);
    let place = 0;
    for (let k = 0; k < runs.length; k += 2) {
      map.fill(runs[k], place, place + runs[k + 1]);
      place += runs[k + 1];
    }
    side.map = map;
  }
  return content;
}

// Tell which pixel of the maps lies under the pointer; null outside.
function pixelAt(content, element, event) {
  const box = element.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / box.width * content.width);
  const y = Math.floor((event.clientY - box.top) / box.height * content.height);
  const inside = x >= 0 && y >= 0 && x < content.width && y < content.height;
  return inside ? y * content.width + x : null;
}

function describeSegment(segment) {
  if (!segment) return "void";
  const [name, id, pixels, score, error] = segment;
  const value = score === null ? "" : ` ${score.toFixed(2)}`;
  return `${name}${value} #${id}, ${pixels} pixels${error ? `, ${error}` : ""}`;
}

function nameSegmentsAt(content, element, event) {
  const pixel = pixelAt(content, element, event);
  if (pixel === null) return null;
  return content.sides
    .map((side) => `${side.name}: ${describeSegment(side.segments[side.map[pixel] - 1])}`)
    .join(" | ");
}

function makeTable(names, rows) {
  const line = (tag, values) => make("tr", {},
    ...values.map((v) => make(tag, {}, v instanceof Node ? v : String(v ?? ""))));
  return make("table", {}, make("thead", {}, line("th", names)),
    make("tbody", {}, ...rows.map((row) => line("td", row))));
}
