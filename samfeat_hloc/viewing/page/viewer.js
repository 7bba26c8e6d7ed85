// The page: what is shown, what is selected, and the keys.

const $ = (id) => document.getElementById(id);

function start() {
  const scene = readScene();
  const canvas = $("view");
  const renderer = webglRenderer(canvas, scene) || canvasRenderer(canvas, scene);
  if (!renderer) throw new Error("this browser has neither WebGL nor a 2D canvas");
  const orbit = new Orbit(scene.view);
  const state = {
    show: { points: true, cloud: true, cameras: true, queries: true, paths: true },
    pointSize: scene.points.count > 100000 ? 1.6 : 2.4, frustum: scene.frustum, pixelRatio: 1, selected: null,
  };
  let matrix = null, waiting = false;

  function draw() {
    waiting = false;
    state.pixelRatio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * state.pixelRatio));
    const height = Math.max(1, Math.round(canvas.clientHeight * state.pixelRatio));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    matrix = orbit.matrix(width / height, scene.farthest);
    renderer.draw(state, matrix);
  }
  function changed() {
    if (!waiting) { waiting = true; requestAnimationFrame(draw); }
  }

  const onScreen = (point) => project(matrix, point, canvas.clientWidth, canvas.clientHeight);
  const visible = (camera) => (camera.kind === "database" ? state.show.cameras : state.show.queries);

  // The camera under a point of the screen: nearest to the eye of those whose frustum's outline holds the point, else
  // the nearest apex within a finger's reach.
  function pick(x, y) {
    let best = null, bestDepth = Infinity, near = null, nearest = 14;
    for (const camera of scene.cameras) {
      if (!visible(camera)) continue;
      const apex = onScreen(camera.centre);
      if (apex.w <= 0) continue;
      const ends = camera.corners.map((corner) => onScreen(add(camera.centre, times(corner, state.frustum))));
      if (ends.every((end) => end.w > 0)) {
        const faces = [ends, ...ends.map((end, i) => [apex, end, ends[(i + 1) % 4]])];
        if (apex.w < bestDepth && faces.some((face) => inside(face, x, y))) { best = camera; bestDepth = apex.w; }
      }
      const distance = Math.hypot(apex.x - x, apex.y - y);
      if (distance < nearest) { near = camera; nearest = distance; }
    }
    return best || near;
  }

  function inside(polygon, x, y) {
    let within = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const a = polygon[i], b = polygon[j];
      if ((a.y > y) !== (b.y > y) && x < (b.x - a.x) * (y - a.y) / (b.y - a.y) + a.x) within = !within;
    }
    return within;
  }

  function select(camera) {
    state.selected = camera;
    renderer.select(camera);
    $("photo").hidden = !camera;
    if (camera) {
      const picture = $("picture");
      $("caption").textContent = camera.name;
      const shown = camera.observed.length;
      const all = shown < camera.sees ? `${shown} of its ${camera.sees} points are in this page` : `${shown} points`;
      $("seen").textContent = camera.kind === "queries" ? "a localized query" : all;
      picture.hidden = !camera.thumbnail;
      $("nothing").hidden = Boolean(camera.thumbnail);
      picture.onload = () => {
        if (state.selected === camera) { renderer.setPhoto(picture); changed(); }
      };
      if (camera.thumbnail) picture.src = "data:image/jpeg;base64," + camera.thumbnail;
      else picture.removeAttribute("src");
    }
    changed();
  }

  function step(by) {
    const cameras = scene.cameras.filter(visible);
    if (!cameras.length) return;
    const at = cameras.indexOf(state.selected);
    select(cameras[at < 0 ? 0 : (at + by + cameras.length) % cameras.length]);
  }

  function standAt(camera) {
    const forward = unit(camera.corners.reduce(add));
    const depths = [...camera.observed].map((i) =>
      dot(subtract([...scene.points.xyz.subarray(3 * i, 3 * i + 3)], camera.centre), forward)).sort((a, b) => a - b);
    const depth = Math.max(depths.length ? depths[depths.length >> 1] : 0, 4 * state.frustum);
    const back = add(camera.centre, times(forward, -2.5 * state.frustum)); // behind it, so that its photograph is in view
    orbit.place(back, add(camera.centre, times(forward, depth)));
    changed();
  }

  // The point nearest to the eye among those within a few pixels of a double click becomes the centre of rotation.
  function centreOn(x, y) {
    let best = -1, bestScore = Infinity;
    const { xyz, count } = scene.points.count ? scene.points : scene.cloud;
    for (let i = 0; i < count; i++) {
      const at = onScreen([xyz[3 * i], xyz[3 * i + 1], xyz[3 * i + 2]]);
      const away = Math.hypot(at.x - x, at.y - y);
      if (at.w > 0 && away < 12 && at.w * (1 + away / 40) < bestScore) { best = i; bestScore = at.w * (1 + away / 40); }
    }
    if (best >= 0) { orbit.place(orbit.eye, [...xyz.subarray(3 * best, 3 * best + 3)]); changed(); }
  }

  const sizePoints = (by) => { state.pointSize = clamp(state.pointSize * by, 0.5, 12); changed(); };
  const sizeCameras = (by) => { state.frustum *= by; changed(); };
  const toggle = (name) => () => { state.show[name] = !state.show[name]; changed(); };
  const has = (kind) => scene.cameras.some((camera) => camera.kind === kind);
  const keys = [
    ["drag", "turn · one finger", null, true],
    ["right drag", "move · shift drag, two fingers", null, true],
    ["wheel", "zoom · pinch", null, true],
    ["double click", "centre on a point", null, true],
    ["click", "a camera: its photograph and points", null, has("database")],
    ["← →", "photograph before, after", [() => step(-1), () => step(1)], scene.cameras.length > 0],
    ["f", "stand at the chosen camera", () => state.selected && standAt(state.selected), scene.cameras.length > 0],
    ["c", "cameras", toggle("cameras"), has("database")],
    ["q", "queries", toggle("queries"), has("queries")],
    ["t", "trajectory", toggle("paths"), scene.paths.length > 0],
    ["p", "points", toggle("points"), scene.points.count > 0],
    ["d", "dense cloud", toggle("cloud"), scene.cloud.count > 0],
    ["- +", "size of points", [() => sizePoints(0.8), () => sizePoints(1.25)], true],
    ["[ ]", "size of cameras", [() => sizeCameras(0.8), () => sizeCameras(1.25)], scene.cameras.length > 0],
    ["r", "first view", () => { orbit.reset(); changed(); }, true],
    ["Esc", "choose nothing", () => select(null), scene.cameras.length > 0],
    ["h", "these keys", () => { $("keys").hidden = !$("keys").hidden; }, true],
  ].filter((key) => key[3]);

  // Every key is also a button, for fingers.
  const actions = {};
  const list = document.createElement("dl");
  for (const [names, does, act] of keys) {
    const term = document.createElement("dt"), meaning = document.createElement("dd");
    const acts = act ? [act].flat() : [];
    (acts.length > 1 ? names.split(" ") : [names]).forEach((name, i) => {
      const key = document.createElement(acts[i] ? "button" : "kbd");
      key.textContent = name;
      if (acts[i]) { key.type = "button"; key.addEventListener("click", acts[i]); actions[name] = acts[i]; }
      term.append(key);
    });
    meaning.textContent = does;
    list.append(term, meaning);
  }
  $("keys").append(list);
  const names = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", "=": "+", _: "-" };
  window.addEventListener("keydown", (event) => {
    if (event.target === $("name") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = actions[names[event.key] || (event.key.length === 1 ? event.key.toLowerCase() : event.key)];
    if (act) { event.preventDefault(); act(); }
  });

  for (const fact of scene.facts) {
    const item = document.createElement("li");
    item.textContent = fact;
    $("facts").append(item);
  }
  $("names").append(...scene.cameras.slice(0, 5000).map((camera) => new Option(camera.name)));
  $("find").hidden = !scene.cameras.length;
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = $("name").value.trim();
    const found = scene.cameras.find((camera) => camera.name === wanted)
      || scene.cameras.find((camera) => wanted && camera.name.includes(wanted));
    if (found) { select(found); canvas.focus(); }
  });
  $("help").addEventListener("click", () => {
    $("keys").hidden = false;
    $("keys").classList.toggle("asked"); // on small screens the list starts out closed
  });
  $("close").addEventListener("click", () => select(null));
  listen(canvas, orbit, {
    changed, doubleClicked: centreOn,
    clicked: (x, y) => { const camera = pick(x, y); if (camera) select(camera); },
    hovered: (x, y) => canvas.classList.toggle("over", matrix !== null && pick(x, y) !== null),
  });
  window.addEventListener("resize", changed);
  draw();

  // For scripts and tests of the page.
  window.viewer = {
    renderer: renderer.name, cameras: scene.cameras, points: scene.points, draw, select, orbit, onScreen, state,
  };
}

try {
  start();
} catch (error) {
  $("failure").textContent = `This model cannot be drawn: ${error.message}`;
  $("failure").hidden = false;
}
