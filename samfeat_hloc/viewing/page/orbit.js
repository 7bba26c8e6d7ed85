// Orbit, pan and zoom: where the eye is, and how mouse, wheel and fingers move it.

class Orbit {
  constructor(view) {
    this.home = view;
    this.up = unit(view.up);
    const some = Math.abs(this.up[0]) < 0.8 ? [1, 0, 0] : [0, 1, 0];
    this.east = unit(cross(some, this.up));
    this.north = cross(this.up, this.east);
    this.fieldOfView = view.fieldOfView * Math.PI / 180;
    this.reset();
  }

  reset() { this.place(this.home.eye, this.home.target); }

  place(eye, target) {
    const arm = subtract(eye, target);
    this.target = [...target];
    this.distance = norm(arm);
    this.pitch = Math.asin(clamp(dot(unit(arm), this.up), -1, 1));
    this.yaw = Math.atan2(dot(arm, this.north), dot(arm, this.east));
    this.limit();
  }

  limit() {
    this.pitch = clamp(this.pitch, -1.55, 1.55); // at 90 degrees "up" has no direction in the picture
    this.distance = clamp(this.distance, this.home.radius * 1e-4, this.home.radius * 1e3);
  }

  get eye() {
    const flat = add(times(this.east, Math.cos(this.yaw)), times(this.north, Math.sin(this.yaw)));
    const arm = add(times(flat, Math.cos(this.pitch)), times(this.up, Math.sin(this.pitch)));
    return add(this.target, times(arm, this.distance));
  }

  matrix(aspect, farthest) {
    const eye = this.eye;
    const far = norm(eye) + farthest + this.distance;
    const near = Math.max(this.distance * 0.01, far * 1e-6);
    const field = aspect < 1 ? 2 * Math.atan(Math.tan(this.fieldOfView / 2) / aspect) : this.fieldOfView;
    return viewProjection(eye, this.target, this.up, Math.min(field, 2), aspect, near, far);
  }

  turn(dx, dy) {
    this.yaw -= dx * 0.006;
    this.pitch += dy * 0.006;
    this.limit();
  }

  pan(dx, dy, height) {
    const { right, up } = axes(this.eye, this.target, this.up);
    const scale = 2 * this.distance * Math.tan(this.fieldOfView / 2) / height;
    this.target = add(this.target, add(times(right, -dx * scale), times(up, dy * scale)));
  }

  zoom(factor) {
    this.distance *= factor;
    this.limit();
  }
}

// changed() after every move; clicked(x, y), doubleClicked(x, y) and hovered(x, y) in CSS pixels of the canvas.
function listen(canvas, orbit, { changed, clicked, doubleClicked, hovered }) {
  const pointers = new Map();
  let travelled = 0, spread = 0, panning = false;
  const local = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spreadOf = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (pointers.size === 0) travelled = 0;
    try { canvas.setPointerCapture(event.pointerId); } catch (error) { /* the pointer is gone already */ }
    pointers.set(event.pointerId, local(event));
    panning = event.button === 2 || event.button === 1 || event.shiftKey;
    if (pointers.size === 2) spread = spreadOf();
    canvas.classList.add("dragging");
    canvas.focus();
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const [x, y] = local(event);
    if (!before) { hovered(x, y); return; }
    const dx = x - before[0], dy = y - before[1];
    travelled += Math.abs(dx) + Math.abs(dy);
    pointers.set(event.pointerId, [x, y]);
    if (pointers.size === 1 && travelled > 3) {
      if (panning) orbit.pan(dx, dy, canvas.clientHeight); else orbit.turn(dx, dy);
      changed();
    } else if (pointers.size === 2) {
      orbit.pan(dx / 2, dy / 2, canvas.clientHeight);
      const now = spreadOf();
      if (now > 0 && spread > 0) orbit.zoom(spread / now);
      spread = now;
      changed();
    }
  });
  const release = (event) => {
    const known = pointers.delete(event.pointerId);
    if (pointers.size === 0) canvas.classList.remove("dragging");
    if (known && event.type === "pointerup" && pointers.size === 0 && travelled <= 4 && event.button === 0)
      clicked(...local(event));
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", (event) => doubleClicked(...local(event)));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    orbit.zoom(Math.exp(clamp(event.deltaY * lines, -240, 240) * 0.0015));
    changed();
  }, { passive: false });
}
