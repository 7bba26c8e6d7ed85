// The same picture without WebGL: points go one by one into an image with a depth buffer, lines are drawn over it.

function canvasRenderer(canvas, scene) {
  const context = canvas.getContext("2d");
  if (!context) return null;
  let marks = new Uint8Array(scene.points.count);
  let image = null, depths = null;

  function drawPoints(points, marked, matrix, size, dim) {
    const { width, height } = canvas;
    const m = matrix, pixels = image.data, half = size / 2;
    for (let i = 0; i < points.count; i++) {
      const x = points.xyz[3 * i], y = points.xyz[3 * i + 1], z = points.xyz[3 * i + 2];
      const w = m[3] * x + m[7] * y + m[11] * z + m[15];
      if (w <= 0) continue;
      const px = ((m[0] * x + m[4] * y + m[8] * z + m[12]) / w + 1) / 2 * width;
      const py = (1 - (m[1] * x + m[5] * y + m[9] * z + m[13]) / w) / 2 * height;
      const mark = marked && marked[i];
      const reach = mark ? half * 1.8 : half;
      const left = Math.max(0, Math.round(px - reach)), right = Math.min(width, Math.round(px + reach));
      const top = Math.max(0, Math.round(py - reach)), bottom = Math.min(height, Math.round(py + reach));
      for (let v = top; v < bottom; v++) {
        for (let u = left; u < right; u++) {
          const at = v * width + u;
          if (w >= depths[at]) continue;
          depths[at] = w;
          for (let k = 0; k < 3; k++) {
            const colour = points.rgb[3 * i + k];
            pixels[4 * at + k] = mark ? MARKED[k] : colour + dim * (BACKGROUND[k] - colour);
          }
        }
      }
    }
  }

  function line(matrix, from, to) {
    const a = project(matrix, from, canvas.width, canvas.height);
    const b = project(matrix, to, canvas.width, canvas.height);
    if (a.w <= 0 || b.w <= 0) return;
    context.moveTo(a.x, a.y);
    context.lineTo(b.x, b.y);
  }

  function drawLines(colour, draw) {
    context.beginPath();
    context.strokeStyle = `rgb(${colour.join(",")})`;
    draw();
    context.stroke();
  }

  function drawFrusta(matrix, cameras, colour, depth) {
    drawLines(colour, () => {
      for (const camera of cameras) {
        const ends = frustumEnds(camera).map((end) => add(camera.centre, times(end, depth)));
        for (let i = 0; i < ends.length; i += 2) line(matrix, ends[i], ends[i + 1]);
      }
    });
  }

  return {
    name: "canvas",
    select(camera) {
      marks = new Uint8Array(scene.points.count);
      if (camera) for (const index of camera.observed) marks[index] = 1;
    },
    setPhoto() {},
    draw(state, matrix) {
      const { width, height } = canvas;
      if (!image || image.width !== width || image.height !== height) {
        image = context.createImageData(width, height);
        depths = new Float32Array(width * height);
      }
      depths.fill(Infinity);
      new Uint32Array(image.data.buffer).fill((255 << 24) | (BACKGROUND[2] << 16) | (BACKGROUND[1] << 8) | BACKGROUND[0]);
      const size = Math.max(1, state.pointSize * state.pixelRatio);
      const dim = state.selected && state.selected.observed.length ? 0.72 : 0;
      if (state.show.points) drawPoints(scene.points, marks, matrix, size, dim);
      if (state.show.cloud) drawPoints(scene.cloud, null, matrix, size, dim);
      context.putImageData(image, 0, 0);
      context.lineWidth = state.pixelRatio;
      for (const [kind, shown] of [["database", state.show.cameras], ["queries", state.show.queries]])
        if (shown) drawFrusta(matrix, scene.cameras.filter((one) => one.kind === kind), COLOURS[kind], state.frustum);
      if (state.show.paths) {
        drawLines(COLOURS.path, () => {
          for (const path of scene.paths)
            for (let i = 0; i + 5 < path.length; i += 3)
              line(matrix, [...path.subarray(i, i + 3)], [...path.subarray(i + 3, i + 6)]);
        });
      }
      if (state.selected) drawFrusta(matrix, [state.selected], COLOURS.selected, state.frustum * 1.4);
    },
  };
}
