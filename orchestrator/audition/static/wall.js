// The wall: trials by checkpoints, of which only what can be seen is in the document. Rows and cells have fixed sizes,
// so a place on the scroll bar is arithmetic and nothing is measured while scrolling.

const CLIP_HEIGHT = 29;
const SINGLE = 3; // so many clips are below one another, more are in two columns; the server's sheets are alike
const LABEL_HEIGHT = 128;
const HEAD = 30;
const AROUND = 1; // rows and columns beyond the edge
const SETTLE_MS = 90; // pictures are asked for where scrolling rests

const make = (tag, className, role) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (role) element.setAttribute("role", role);
  return element;
};

export class Wall {
  constructor(element, library, onClip) {
    this.element = element;
    this.library = library;
    this.view = { rows: [], columns: [], clips: [], matches: () => true };
    this.canvas = make("div", "canvas", "presentation");
    this.heads = make("div", "heads", "row");
    this.heads.append(Object.assign(make("div", "corner", "columnheader"), { textContent: "model" }));
    this.canvas.append(this.heads);
    element.append(this.canvas);
    this.rows = new Map(); // row number -> {element, cells: Map of column -> element}
    this.buttons = new Map(); // clip id -> button, of those in the document
    this.headsDrawn = new Set();
    this.current = null;
    this.size();
    element.addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.later()).observe(element);
    element.addEventListener("click", (event) => {
      const button = event.target.closest(".clip");
      if (button) onClip(button.dataset.id, event.shiftKey);
    });
  }

  size() {
    const style = getComputedStyle(this.element);
    this.labelWidth = parseFloat(style.getPropertyValue("--label"));
    this.cellWidth = parseFloat(style.getPropertyValue("--cell"));
  }

  // Show a view from the same place; what is drawn already and stays the same is left alone, so nothing flashes.
  show(view) {
    const turned = view.blind !== this.view.blind || this.view.columns.some((column, at) => column !== view.columns[at]);
    const focused = this.canvas.contains(document.activeElement);
    this.view = view;
    this.size();
    const lines = view.rows.reduce((m, row) => row.cells.reduce((n, cell) => Math.max(n, linesOf(cell)), m), 1);
    this.rowHeight = Math.max(LABEL_HEIGHT, 38 + lines * CLIP_HEIGHT);
    this.canvas.style.height = `${HEAD + view.rows.length * this.rowHeight}px`;
    this.canvas.style.width = `${this.labelWidth + view.columns.length * this.cellWidth}px`;
    this.element.setAttribute("aria-rowcount", view.rows.length + 1);
    this.element.setAttribute("aria-colcount", view.columns.length + 1);
    for (const [at, row] of this.rows) {
      if (turned || view.rows[at]?.trial.id !== row.trial) this.dropRow(at, row);
      else this.renew(at, row);
    }
    if (turned) {
      this.heads.replaceChildren(this.heads.firstChild);
      this.headsDrawn.clear();
    }
    this.draw();
    this.loadPictures();
    if (focused && !this.canvas.contains(document.activeElement)) this.buttons.get(this.current)?.focus({ preventScroll: true });
  }

  renew(at, row) {
    this.put(row.element, at);
    row.element.firstChild.replaceWith(this.label(at));
    for (const [column, element] of row.cells) {
      const cell = this.view.rows[at].cells[column];
      if (element.dataset.key !== keyOf(cell)) this.dropCell(row, column);
      else for (const clip of cell?.clips ?? []) this.repaint(clip.id);
    }
  }

  put(element, at) {
    element.style.top = `${HEAD + at * this.rowHeight}px`;
    element.style.height = `${this.rowHeight}px`;
  }

  label(at) {
    return this.view.blind ? blindLabel(at) : trialLabel(this.library, this.view.rows[at].trial);
  }

  later() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.draw();
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.loadPictures(), SETTLE_MS);
    });
  }

  span() {
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.element;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    const { rows, columns } = this.view;
    return {
      top: clamp(Math.floor((scrollTop - HEAD) / this.rowHeight) - AROUND, rows.length),
      bottom: clamp(Math.ceil((scrollTop + clientHeight - HEAD) / this.rowHeight) + AROUND, rows.length),
      left: clamp(Math.floor((scrollLeft - this.labelWidth) / this.cellWidth) - AROUND, columns.length),
      right: clamp(Math.ceil((scrollLeft + clientWidth - this.labelWidth) / this.cellWidth) + AROUND, columns.length),
    };
  }

  draw() {
    const { top, bottom, left, right } = this.span();
    for (const [at, row] of this.rows) {
      if (at < top || at >= bottom) this.dropRow(at, row);
      else for (const column of row.cells.keys()) if (column < left || column >= right) this.dropCell(row, column);
    }
    for (let column = left; column < right; column++) this.drawHead(column);
    for (let at = top; at < bottom; at++) {
      const row = this.rows.get(at) ?? this.addRow(at);
      for (let column = left; column < right; column++) if (!row.cells.has(column)) this.addCell(row, at, column);
    }
  }

  drawHead(column) {
    if (this.headsDrawn.has(column)) return;
    this.headsDrawn.add(column);
    const head = make("div", "head", "columnheader");
    head.style.left = `${this.labelWidth + column * this.cellWidth}px`;
    head.setAttribute("aria-colindex", column + 2);
    head.textContent = this.view.columns[column] || `${column + 1}`;
    this.heads.append(head);
  }

  addRow(at) {
    const element = make("div", "row", "row");
    this.put(element, at);
    element.setAttribute("aria-rowindex", at + 2);
    element.append(this.label(at));
    this.canvas.append(element);
    const row = { element, trial: this.view.rows[at].trial.id, cells: new Map() };
    this.rows.set(at, row);
    return row;
  }

  addCell(row, at, column) {
    const cell = this.view.rows[at].cells[column];
    const element = make("div", "cell", "gridcell");
    element.style.left = `${this.labelWidth + column * this.cellWidth}px`;
    element.setAttribute("aria-colindex", column + 2);
    element.dataset.key = keyOf(cell);
    row.cells.set(column, element);
    row.element.append(element);
    if (!cell) return;
    const when = make("p", "when");
    if (!this.view.blind && cell.bits !== null) {
      when.textContent = `${cell.bits.toFixed(2)} bits`;
    }
    const sheet = make("div", cell.clips.length > SINGLE ? "sheet" : "sheet single");
    sheet.style.height = `${linesOf(cell) * CLIP_HEIGHT}px`;
    sheet.dataset.cell = cell.id;
    sheet.append(...cell.clips.map((clip) => this.button(clip)));
    element.append(when, sheet);
  }

  button(clip) {
    const button = make("button", "clip");
    button.type = "button";
    button.dataset.id = clip.id;
    button.tabIndex = clip.id === this.current ? 0 : -1;
    this.buttons.set(clip.id, button);
    this.dress(clip, button);
    return button;
  }

  dress(clip, button) {
    const said = this.library.said(clip.id);
    const badges = this.view.blind ? [] : this.library.badges(clip.flags);
    const broken = this.library.broken(clip);
    const others = this.library.others(clip.id, "pick");
    const on = (name, value) => button.classList.toggle(name, Boolean(value));
    on("heard", said.heard);
    on("picked", said.verdict === "pick");
    on("rejected", said.verdict === "reject");
    on("liked", others.length);
    on("broken", broken);
    on("dim", !this.view.matches(clip));
    on("current", clip.id === this.current);
    button.dataset.rating = said.rating ?? "";
    button.dataset.badges = badges.join(" ");
    button.title = [broken && "can't be decoded", ...badges, said.note].filter(Boolean).join(", ");
    button.setAttribute("aria-label", [
      `clip ${clip.number + 1}`, broken && "can't be decoded", said.heard ? "heard" : "not heard",
      said.rating && `rated ${said.rating}`, said.verdict && { pick: "picked", reject: "rejected" }[said.verdict],
      others.length && `picked by ${others.join(" and ")}`, ...badges,
    ].filter(Boolean).join(", "));
  }

  // Marks or flags of a clip changed.
  repaint(id) {
    const button = this.buttons.get(id);
    const clip = this.library.clips.get(id);
    if (button && clip) this.dress(clip, button);
  }

  dropRow(at, row) {
    for (const column of [...row.cells.keys()]) this.dropCell(row, column);
    row.element.remove();
    this.rows.delete(at);
  }

  dropCell(row, column) {
    const element = row.cells.get(column);
    for (const button of element.querySelectorAll(".clip")) this.buttons.delete(button.dataset.id);
    if (element.contains(document.activeElement)) this.element.focus({ preventScroll: true });
    const picture = element.querySelector("img");
    if (picture && !picture.complete) picture.src = ""; // nobody waits for it any more
    element.remove();
    row.cells.delete(column);
  }

  loadPictures() {
    for (const sheet of this.canvas.querySelectorAll(".sheet:not(.pictured)")) {
      sheet.classList.add("pictured");
      const picture = make("img");
      picture.alt = "";
      picture.decoding = "async";
      picture.draggable = false;
      picture.addEventListener("load", () => picture.classList.add("there"), { once: true });
      picture.src = `/sheet/${sheet.dataset.cell}`;
      sheet.prepend(picture);
    }
  }

  // Where a clip is: {row, column}, or null when the view does not have it.
  place(id) {
    const clip = this.library.clips.get(id);
    const row = clip ? this.view.rows.findIndex((at) => at.trial.id === clip.trial.id) : -1;
    if (row < 0) return null;
    const column = this.view.rows[row].cells.findIndex((cell) => cell?.id === clip.cell.id);
    return column < 0 ? null : { row, column };
  }

  // Make a clip the current one, and bring it into sight.
  select(id, focus = true) {
    const before = this.current;
    this.current = id;
    const place = this.place(id);
    if (place) this.bring(place);
    for (const at of [before, id]) {
      const button = this.buttons.get(at);
      if (!button) continue;
      button.tabIndex = at === id ? 0 : -1;
      button.classList.toggle("current", at === id);
      button.style.removeProperty("--at");
    }
    if (place && focus) this.buttons.get(id)?.focus({ preventScroll: true });
  }

  bring({ row, column }) {
    const { element } = this;
    const y = HEAD + row * this.rowHeight;
    const x = this.labelWidth + column * this.cellWidth;
    if (y - HEAD < element.scrollTop) element.scrollTop = y - HEAD;
    else if (y + this.rowHeight > element.scrollTop + element.clientHeight) element.scrollTop = y + this.rowHeight - element.clientHeight;
    if (x - this.labelWidth < element.scrollLeft) element.scrollLeft = x - this.labelWidth;
    else if (x + this.cellWidth > element.scrollLeft + element.clientWidth) element.scrollLeft = x + this.cellWidth - element.clientWidth;
    this.draw();
    this.later();
  }

  progress(id, share) {
    this.buttons.get(id)?.style.setProperty("--at", `${(100 * share).toFixed(1)}%`);
  }
}

const linesOf = (cell) => (!cell ? 0 : cell.clips.length > SINGLE ? Math.ceil(cell.clips.length / 2) : cell.clips.length);

const keyOf = (cell) => (cell ? `${cell.id} ${cell.clips.length} ${cell.bits}` : "");

function blindLabel(at) {
  const label = make("div", "label", "rowheader");
  label.append(Object.assign(make("p", "which"), { textContent: `Model ${at + 1}` }));
  return label;
}

function trialLabel(library, trial) {
  const label = make("div", "label", "rowheader");
  label.title = trial.name;
  const which = make("p", "which");
  which.append(Object.assign(make("span", `state ${trial.state}`), { textContent: trial.number }));
  if (Number.isFinite(trial.best)) which.append(Object.assign(make("b"), { textContent: `${trial.best.toFixed(3)} bits` }));
  const values = make("p", "values");
  const settings = library.settings(trial);
  settings.forEach((setting, at) => { // a setting is not broken over two lines
    const last = at === settings.length - 1;
    values.append(Object.assign(make("span"), { textContent: last ? setting : `${setting} ·` }), last ? "" : " ");
  });
  const state = Object.assign(make("p", "ended"), { textContent: trial.reason || trial.state, title: trial.reason });
  label.append(which, values, state);
  if (trial.evaluations.length > 1) label.append(sparkline(trial.evaluations));
  return label;
}

function sparkline(points) {
  const SVG = "http://www.w3.org/2000/svg";
  const [width, height] = [96, 18];
  const xs = points.map(([step]) => step);
  const ys = points.map(([, bits]) => bits);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const at = ([step, bits]) => `${((step / Math.max(...xs)) * width).toFixed(1)} ${(1 + (1 - (bits - low) / (high - low || 1)) * (height - 2)).toFixed(1)}`;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", `M${points.map(at).join("L")}`);
  svg.append(path);
  return svg;
}
