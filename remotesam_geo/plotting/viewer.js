"use strict";
// A map of features over a picture, without any library and without the network. Coordinates are pixels of the picture,
// x to the right and y down. Whatever comes from the data reaches the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const get = (id) => document.getElementById(id);
  const canvas = get("map"), context = canvas.getContext("2d"), popup = get("popup");
  const add = (parent, tag, text) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  };

  // --- the features: flat rings of coordinates, with their bounds and, once wanted, their path
  const features = data.rings.map((rings, index) => {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (const ring of rings) {
      for (let i = 0; i < ring.length; i += 2) {
        box[0] = Math.min(box[0], ring[i]); box[2] = Math.max(box[2], ring[i]);
        box[1] = Math.min(box[1], ring[i + 1]); box[3] = Math.max(box[3], ring[i + 1]);
      }
    }
    return { index, rings, box, label: data.label[index], score: data.score ? data.score[index] : null };
  });
  const on = data.labels.map(() => true);
  let least = 0, chosen = null, shown = features;

  // --- the view: a scale and a shift from the picture's pixels to the canvas's
  const view = { scale: 1, x: 0, y: 0 };
  let image = null, waiting = false, touched = false;

  function fit() {
    const { width, height } = canvas.getBoundingClientRect();
    if (!width || !height) return; // a frame that is not laid out yet: its size will be told
    const [left, top, right, bottom] = data.extent;
    view.scale = 0.95 * Math.min(width / Math.max(right - left, 1e-9), height / Math.max(bottom - top, 1e-9));
    view.x = width / 2 - view.scale * (left + right) / 2;
    view.y = height / 2 - view.scale * (top + bottom) / 2;
    redraw();
  }

  function zoom(factor, x, y) {
    const [left, top, right, bottom] = data.extent;
    const whole = Math.min(canvas.clientWidth / (right - left), canvas.clientHeight / (bottom - top));
    const scale = Math.min(Math.max(view.scale * factor, whole / 4), whole * 2000);
    view.x = x - (x - view.x) * scale / view.scale;
    view.y = y - (y - view.y) * scale / view.scale;
    view.scale = scale;
    touched = true;
    redraw();
  }

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function trace(target, feature) {
    for (const ring of feature.rings) {
      for (let i = 0; i < ring.length; i += 2) {
        const x = view.x + view.scale * ring[i], y = view.y + view.scale * ring[i + 1];
        if (i) target.lineTo(x, y); else target.moveTo(x, y);
      }
      if (!data.open) target.closePath();
    }
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1, { width, height } = canvas.getBoundingClientRect();
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (image && get("imagery").checked) {
      context.imageSmoothingEnabled = view.scale < 2;
      context.drawImage(image, view.x, view.y, view.scale * data.size[0], view.scale * data.size[1]);
    }
    const left = -view.x / view.scale, top = -view.y / view.scale;
    const right = left + width / view.scale, bottom = top + height / view.scale;
    data.labels.forEach((_, label) => {
      const outlines = new Path2D(), dots = new Path2D();
      for (const feature of shown) {
        const [x0, y0, x1, y1] = feature.box;
        if (feature.label !== label || x1 < left || x0 > right || y1 < top || y0 > bottom) continue;
        if (Math.max(x1 - x0, y1 - y0) * view.scale < 3) { // too small to have a shape
          dots.rect(view.x + view.scale * (x0 + x1) / 2 - 1.5, view.y + view.scale * (y0 + y1) / 2 - 1.5, 3, 3);
        } else trace(outlines, feature);
      }
      context.fillStyle = data.colours[label] + "30";
      if (!data.open) context.fill(outlines, "evenodd");
      context.strokeStyle = "#0008"; context.lineWidth = 4; context.stroke(outlines);
      context.strokeStyle = context.fillStyle = data.colours[label];
      context.lineWidth = 2;
      context.stroke(outlines);
      context.fill(dots);
    });
    if (chosen && shown.includes(chosen)) {
      const path = new Path2D();
      trace(path, chosen);
      context.strokeStyle = "#fff"; context.lineWidth = 4; context.stroke(path);
      context.strokeStyle = "#000"; context.lineWidth = 1.5; context.stroke(path);
    }
    bar(width);
  }

  function bar(width) {
    if (!data.metres) return;
    const metres = data.metres / view.scale, most = metres * Math.min(160, width / 4);
    const power = 10 ** Math.floor(Math.log10(most));
    const length = Math.max(...[1, 2, 5].map((step) => step * power).filter((step) => step <= most));
    get("bar").hidden = false;
    get("bar").querySelector("div").style.width = `${length / metres}px`;
    get("bar").querySelector("span").textContent = length < 1 ? `${+(length * 100).toPrecision(2)} cm`
      : length < 5000 ? `${length} m` : `${length / 1000} km`;
  }

  // --- what is shown
  function choose() {
    shown = features.filter((f) => on[f.label] && (f.score === null || f.score >= least));
    get("shown").textContent = `${shown.length.toLocaleString("en")} of ${features.length.toLocaleString("en")} shown`;
    get("least").textContent = least.toFixed(3);
    const counts = data.labels.map(() => 0);
    for (const feature of shown) counts[feature.label] += 1;
    document.querySelectorAll("#labels .count").forEach((node, i) => { node.textContent = counts[i].toLocaleString("en"); });
    if (chosen && !shown.includes(chosen)) close();
    redraw();
  }

  function close() { chosen = null; popup.hidden = true; redraw(); }

  function ask(x, y) {
    const px = (x - view.x) / view.scale, py = (y - view.y) / view.scale, near = 4 / view.scale;
    let best = null, smallest = Infinity;
    for (const feature of shown) {
      const [x0, y0, x1, y1] = feature.box;
      if (px < x0 - near || px > x1 + near || py < y0 - near || py > y1 + near) continue;
      const path = new Path2D(), size = (x1 - x0) * (y1 - y0);
      trace(path, feature);
      context.save(); context.setTransform(1, 0, 0, 1, 0, 0); context.lineWidth = 8;
      const hit = context.isPointInStroke(path, x, y) || (!data.open && context.isPointInPath(path, x, y, "evenodd"));
      context.restore();
      if (hit && size < smallest) { best = feature; smallest = size; } // the inner one of two
    }
    if (!best) return close();
    chosen = best;
    popup.replaceChildren();
    add(popup, "button", "\u00d7").onclick = close;
    const table = add(popup, "table");
    data.columns.forEach((name, i) => {
      const row = add(table, "tr");
      add(row, "th", name);
      add(row, "td", data.rows[best.index][i]);
    });
    popup.hidden = false;
    popup.style.left = `${Math.max(4, Math.min(x + 12, canvas.clientWidth - popup.offsetWidth - 4))}px`;
    popup.style.top = `${Math.max(4, Math.min(y + 12, canvas.clientHeight - popup.offsetHeight - 4))}px`;
    redraw();
  }

  // --- hands: one finger moves, two zoom, the wheel zooms, keys do both
  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = 0;
    canvas.classList.add("dragging");
  });
  canvas.addEventListener("pointermove", (event) => {
    where(event.offsetX, event.offsetY);
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const now = [event.offsetX, event.offsetY];
    moved += Math.hypot(now[0] - last[0], now[1] - last[1]);
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    if (other) {
      const [ox, oy] = other[1];
      zoom(Math.hypot(now[0] - ox, now[1] - oy) / Math.max(1, Math.hypot(last[0] - ox, last[1] - oy)), ox, oy);
    } else {
      view.x += now[0] - last[0]; view.y += now[1] - last[1];
      touched = true;
      popup.hidden = true;
      redraw();
    }
    fingers.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      fingers.delete(event.pointerId);
      canvas.classList.remove("dragging");
      if (kind === "pointerup" && moved < 4) ask(event.offsetX, event.offsetY);
    });
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    popup.hidden = true;
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) { touched = true; view.x += step[0]; view.y += step[1]; redraw(); event.preventDefault(); }
    if (event.key === "+" || event.key === "=") middle(1.5);
    if (event.key === "-") middle(1 / 1.5);
    if (event.key === "Escape") close();
  });
  const middle = (factor) => zoom(factor, canvas.clientWidth / 2, canvas.clientHeight / 2);
  get("in").onclick = () => middle(1.5);
  get("out").onclick = () => middle(1 / 1.5);
  get("fit").onclick = () => { touched = false; fit(); };

  function where(x, y) {
    const px = (x - view.x) / view.scale, py = (y - view.y) / view.scale, [a, b, c, d, e, f] = data.affine;
    const [east, north] = [a * px + b * py + c, d * px + e * py + f];
    get("place").textContent = `${east.toFixed(data.decimals)}, ${north.toFixed(data.decimals)} ${data.crs}`;
  }

  // --- the panel
  get("title").textContent = data.title;
  data.labels.forEach((name, i) => {
    const line = add(get("labels"), "label"), box = add(line, "input");
    box.type = "checkbox";
    box.checked = true;
    box.onchange = () => { on[i] = box.checked; choose(); };
    add(line, "span").className = "swatch";
    line.querySelector(".swatch").style.borderColor = data.colours[i];
    add(line, "span", name);
    add(line, "span").className = "count";
  });
  if (data.score) {
    const known = data.score.filter((score) => score !== null);
    const slider = get("threshold");
    least = known.length ? Math.floor(known.reduce((a, b) => Math.min(a, b)) * 200) / 200 : 0;
    slider.min = least;
    slider.value = least;
    slider.oninput = () => { least = Number(slider.value); choose(); };
    get("scores").hidden = false;
  }
  get("imagery").onchange = redraw;
  if (data.image) {
    get("picture").hidden = false;
    image = new Image();
    image.onload = redraw;
    image.src = data.image;
  }
  new ResizeObserver(() => { if (touched) redraw(); else fit(); }).observe(canvas);
  choose();
  fit();
})();
