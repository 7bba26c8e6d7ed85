// Drawing with WebGL: points, frusta, paths, and the selected photograph on its image plane.

const POINT_VERTEX = `
attribute vec3 position; attribute vec3 colour; attribute float mark;
uniform mat4 matrix; uniform float size; uniform float dim; uniform vec3 background; uniform vec3 marked;
varying vec3 shade;
void main() {
  gl_Position = matrix * vec4(position, 1.0);
  gl_PointSize = size * (1.0 + 0.8 * mark);
  shade = mark > 0.5 ? marked : mix(colour, background, dim);
}`;
const POINT_FRAGMENT = `
precision mediump float; varying vec3 shade; uniform float round;
void main() {
  vec2 d = gl_PointCoord - 0.5;
  if (round > 0.5 && dot(d, d) > 0.25) discard;
  gl_FragColor = vec4(shade, 1.0);
}`;
const LINE_VERTEX = `
attribute vec3 centre; attribute vec3 offset; attribute vec3 colour;
uniform mat4 matrix; uniform float depth; varying vec3 shade;
void main() { gl_Position = matrix * vec4(centre + depth * offset, 1.0); shade = colour; }`;
const LINE_FRAGMENT = `
precision mediump float; varying vec3 shade; void main() { gl_FragColor = vec4(shade, 1.0); }`;
const PHOTO_VERTEX = `
attribute vec3 position; attribute vec2 corner; uniform mat4 matrix; varying vec2 where;
void main() { gl_Position = matrix * vec4(position, 1.0); where = corner; }`;
const PHOTO_FRAGMENT = `
precision mediump float; varying vec2 where; uniform sampler2D photo;
void main() { gl_FragColor = texture2D(photo, where); }`;

function makeProgram(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "WebGL");
  return program;
}

function makeBuffer(gl, values, usage) {
  const buffer = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, values, usage || gl.STATIC_DRAW);
  return buffer;
}

function webglRenderer(canvas, scene) {
  const gl = canvas.getContext("webgl", { antialias: true, alpha: false, preserveDrawingBuffer: true });
  if (!gl) return null;
  const programs = {
    points: makeProgram(gl, POINT_VERTEX, POINT_FRAGMENT),
    lines: makeProgram(gl, LINE_VERTEX, LINE_FRAGMENT),
    photo: makeProgram(gl, PHOTO_VERTEX, PHOTO_FRAGMENT),
  };
  const fraction = (colour) => colour.map((value) => value / 255);
  const uniform = (program, name) => gl.getUniformLocation(program, name);

  function attribute(program, name, buffer, size, type, normalised) {
    const location = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, type, normalised, 0, 0);
  }

  function pointSet(points) {
    return {
      count: points.count, xyz: makeBuffer(gl, points.xyz), rgb: makeBuffer(gl, points.rgb),
      marks: makeBuffer(gl, new Uint8Array(points.count), gl.DYNAMIC_DRAW),
    };
  }

  // cameras: a list of {centre, corners}; colour: of all of them.
  function frusta(cameras, colour) {
    const centre = [], offset = [], shade = [];
    for (const camera of cameras) {
      for (const end of frustumEnds(camera)) {
        centre.push(...camera.centre);
        offset.push(...end);
        shade.push(...colour);
      }
    }
    return lineSet(centre, offset, shade);
  }

  function lineSet(centre, offset, shade) {
    return {
      count: centre.length / 3, centre: makeBuffer(gl, new Float32Array(centre)),
      offset: makeBuffer(gl, new Float32Array(offset)), shade: makeBuffer(gl, new Uint8Array(shade)),
    };
  }

  function pathSet() {
    const centre = [];
    for (const path of scene.paths)
      for (let i = 0; i + 5 < path.length; i += 3) centre.push(...path.subarray(i, i + 6));
    return lineSet(centre, new Array(centre.length).fill(0), new Array(centre.length / 3).fill(COLOURS.path).flat());
  }

  const sets = {
    points: pointSet(scene.points),
    cloud: pointSet(scene.cloud),
    database: frusta(scene.cameras.filter((camera) => camera.kind === "database"), COLOURS.database),
    queries: frusta(scene.cameras.filter((camera) => camera.kind === "queries"), COLOURS.queries),
    paths: pathSet(),
    selected: null,
  };
  const photo = { texture: gl.createTexture(), ready: false, place: null, corner: null };

  function drawPoints(set, matrix, size, dim) {
    if (!set.count) return;
    const program = programs.points;
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniform(program, "matrix"), false, matrix);
    gl.uniform1f(uniform(program, "size"), size);
    gl.uniform1f(uniform(program, "dim"), dim);
    gl.uniform1f(uniform(program, "round"), size > 3 ? 1 : 0);
    gl.uniform3fv(uniform(program, "background"), fraction(BACKGROUND));
    gl.uniform3fv(uniform(program, "marked"), fraction(MARKED));
    attribute(program, "position", set.xyz, 3, gl.FLOAT, false);
    attribute(program, "colour", set.rgb, 3, gl.UNSIGNED_BYTE, true);
    attribute(program, "mark", set.marks, 1, gl.UNSIGNED_BYTE, true);
    gl.drawArrays(gl.POINTS, 0, set.count);
  }

  function drawLines(set, matrix, depth) {
    if (!set || !set.count) return;
    const program = programs.lines;
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniform(program, "matrix"), false, matrix);
    gl.uniform1f(uniform(program, "depth"), depth);
    attribute(program, "centre", set.centre, 3, gl.FLOAT, false);
    attribute(program, "offset", set.offset, 3, gl.FLOAT, false);
    attribute(program, "colour", set.shade, 3, gl.UNSIGNED_BYTE, true);
    gl.drawArrays(gl.LINES, 0, set.count);
  }

  function drawPhoto(matrix, camera, depth) {
    const place = [0, 1, 3, 2].map((k) => add(camera.centre, times(camera.corners[k], depth))).flat();
    const corners = textureCorners(camera.orientation);
    const program = programs.photo;
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniform(program, "matrix"), false, matrix);
    gl.bindTexture(gl.TEXTURE_2D, photo.texture);
    const positions = makeBuffer(gl, new Float32Array(place), gl.STREAM_DRAW);
    const texture = makeBuffer(gl, new Float32Array([0, 1, 3, 2].map((k) => corners[k]).flat()), gl.STREAM_DRAW);
    attribute(program, "position", positions, 3, gl.FLOAT, false);
    attribute(program, "corner", texture, 2, gl.FLOAT, false);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.deleteBuffer(positions);
    gl.deleteBuffer(texture);
  }

  return {
    name: "WebGL",
    select(camera) {
      const marks = new Uint8Array(scene.points.count);
      if (camera) for (const index of camera.observed) marks[index] = 255;
      gl.bindBuffer(gl.ARRAY_BUFFER, sets.points.marks);
      gl.bufferData(gl.ARRAY_BUFFER, marks, gl.DYNAMIC_DRAW);
      sets.selected = camera ? frusta([camera], COLOURS.selected) : null;
      photo.ready = false;
    },
    setPhoto(image) {
      gl.bindTexture(gl.TEXTURE_2D, photo.texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
      for (const [key, value] of [["WRAP_S", "CLAMP_TO_EDGE"], ["WRAP_T", "CLAMP_TO_EDGE"], ["MIN_FILTER", "LINEAR"],
        ["MAG_FILTER", "LINEAR"]]) gl.texParameteri(gl.TEXTURE_2D, gl["TEXTURE_" + key], gl[value]);
      photo.ready = true;
    },
    draw(state, matrix) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(...fraction(BACKGROUND), 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.enable(gl.DEPTH_TEST);
      const size = state.pointSize * state.pixelRatio;
      const dim = state.selected && state.selected.observed.length ? 0.72 : 0;
      if (state.show.points) drawPoints(sets.points, matrix, size, dim);
      if (state.show.cloud) drawPoints(sets.cloud, matrix, size, dim);
      if (state.show.cameras) drawLines(sets.database, matrix, state.frustum);
      if (state.show.queries) drawLines(sets.queries, matrix, state.frustum);
      if (state.show.paths) drawLines(sets.paths, matrix, 0);
      if (state.selected) {
        if (photo.ready) drawPhoto(matrix, state.selected, state.frustum * 1.4);
        gl.disable(gl.DEPTH_TEST); // whatever stands before the chosen camera, one can see where it is
        drawLines(sets.selected, matrix, state.frustum * 1.4);
      }
    },
  };
}
