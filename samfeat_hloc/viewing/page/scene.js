// The scene that Python wrote: numbers as JSON, arrays as base64 of little-endian bytes.

const COLOURS = { database: [77, 163, 255], queries: [255, 107, 107], path: [255, 209, 102], selected: [255, 255, 255] };
const BACKGROUND = [20, 23, 28];
const MARKED = [255, 176, 32];

function decode(text, Type) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Type(bytes.buffer);
}

function decodePoints(part) {
  const xyz = decode(part.xyz, Float32Array);
  return { count: xyz.length / 3, xyz, rgb: decode(part.rgb, Uint8Array) };
}

function decodeCameras(part, kind) {
  const centres = decode(part.centres, Float32Array);
  const corners = decode(part.corners, Float32Array);
  const offsets = decode(part.offsets, Uint32Array);
  const observed = decode(part.observed, Uint32Array);
  return part.names.map((name, i) => ({
    name, kind,
    centre: [...centres.subarray(3 * i, 3 * i + 3)],
    corners: [0, 1, 2, 3].map((k) => [...corners.subarray(12 * i + 3 * k, 12 * i + 3 * k + 3)]),
    observed: observed.subarray(offsets[i], offsets[i + 1]),
    sees: part.sees[i],
    orientation: part.orientation[i],
    thumbnail: part.thumbnails[i],
  }));
}

function readScene() {
  const raw = JSON.parse(document.getElementById("scene").textContent);
  return {
    facts: raw.facts,
    view: raw.view,
    frustum: raw.frustum,
    farthest: raw.farthest,
    points: decodePoints(raw.points),
    cloud: decodePoints(raw.cloud),
    cameras: [...decodeCameras(raw.database, "database"), ...decodeCameras(raw.queries, "queries")],
    paths: raw.paths.map((text) => decode(text, Float32Array)),
  };
}

// The ends of a frustum's edges as (centre, offset from it at depth 1) pairs; the roof over the upper edge says which
// way is up.
function frustumEnds(camera) {
  const [a, b, c, d] = camera.corners;
  const apex = [0, 0, 0];
  const rise = times(subtract(a, d), 0.22);
  const roof = add(times(add(a, b), 0.5), rise);
  return [apex, a, apex, b, apex, c, apex, d, a, b, b, c, c, d, d, a, a, roof, roof, b];
}

// Texture coordinates, origin at the upright picture's top left, of the stored pixels' corners: top left, top right,
// bottom right, bottom left.
function textureCorners(orientation) {
  return [[0, 0], [1, 0], [1, 1], [0, 1]].map(([x, y]) => {
    let [u, v] = orientation >= 5 ? [y, x] : [x, y];
    if ([2, 3, 6, 7].includes(orientation)) u = 1 - u;
    if ([3, 4, 7, 8].includes(orientation)) v = 1 - v;
    return [u, v];
  });
}
