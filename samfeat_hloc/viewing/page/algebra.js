// Vectors are arrays of 3; matrices are Float32Arrays of 16, column by column, as WebGL takes them.

const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const times = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const norm = (a) => Math.hypot(a[0], a[1], a[2]);
const unit = (a) => times(a, 1 / Math.max(norm(a), 1e-12));
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// Unit vectors right, up, back of an eye that looks at a target.
function axes(eye, target, up) {
  const back = unit(subtract(eye, target));
  const right = unit(cross(up, back));
  return { right, up: cross(back, right), back };
}

// clip_from_world of a perspective camera.
function viewProjection(eye, target, up, fieldOfView, aspect, near, far) {
  const { right: r, up: u, back: b } = axes(eye, target, up);
  const f = 1 / Math.tan(fieldOfView / 2);
  const depth = (far + near) / (near - far);
  const shift = (2 * far * near) / (near - far);
  const x = -dot(r, eye), y = -dot(u, eye), z = -dot(b, eye);
  const fx = f / aspect;
  return new Float32Array([
    fx * r[0], f * u[0], depth * b[0], -b[0],
    fx * r[1], f * u[1], depth * b[1], -b[1],
    fx * r[2], f * u[2], depth * b[2], -b[2],
    fx * x, f * y, depth * z + shift, -z,
  ]);
}

// Where a point appears: x and y in pixels of the given size, w its depth (negative behind the eye).
function project(matrix, point, width, height) {
  const [x, y, z] = point;
  const w = matrix[3] * x + matrix[7] * y + matrix[11] * z + matrix[15];
  const px = (matrix[0] * x + matrix[4] * y + matrix[8] * z + matrix[12]) / w;
  const py = (matrix[1] * x + matrix[5] * y + matrix[9] * z + matrix[13]) / w;
  return { x: (px + 1) / 2 * width, y: (1 - py) / 2 * height, w };
}
