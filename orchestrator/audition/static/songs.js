// The desk: songs as they arrive, regions of them, and the tracklist that becomes an album.

import { post } from "./net.js";

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

export class Desk {
  // hooks: onPlay(id, at), onRegions(id, regions), blind()
  constructor(library, hooks) {
    Object.assign(this, { library, hooks, rows: new Map() });
    this.key = `tracklist ${library.facts.sweep}`;
    this.tracks = read(this.key);
    this.tracklist();
    $("album").addEventListener("submit", (event) => this.write(event));
    for (const name of ["dragover", "drop"]) $("tracklist").addEventListener(name, (event) => this.dragged(event));
  }

  // New songs take their places; those that are drawn already stay as they are.
  show() {
    const box = $("songs");
    if (!this.library.songs.size) {
      const line = make("code", { textContent: `orchestrator generate ${this.library.facts.sweep} songs=20 seconds=120` });
      box.replaceChildren(make("p", { className: "note" }, "No songs of this sweep yet; they appear here as they are made. ", line));
      return;
    }
    box.querySelector(":scope > .note")?.remove();
    for (const song of this.library.songs.values()) if (!this.rows.has(song.id)) this.row(box, song);
    this.tracklist();
  }

  row(box, song) {
    const play = make("button", { type: "button", className: "play" });
    play.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path class="go" d="M7 4.5v15L19.5 12z"/><path class="hold" d="M6.5 5h4v14h-4zM13.5 5h4v14h-4z"/></svg>';
    play.setAttribute("aria-label", `Play ${song.title}`);
    play.addEventListener("click", () => this.hooks.onPlay(song.id));
    const add = make("button", { type: "button", className: "add", textContent: "Add to album" });
    add.addEventListener("click", () => this.add({ id: song.id, title: song.title }));
    const picture = make("img", { alt: "", loading: "lazy", src: `/picture/${song.id}`, draggable: false });
    const marks = make("span", { className: "marks" });
    const regions = make("ul", { className: "regions" });
    const about = `${song.batch} ${song.song} · ${song.trial.split("-")[0]} at step ${song.step.toLocaleString("en")} · temperature ${song.temperature}`;
    const element = make(
      "article", { className: "song", draggable: true, tabIndex: -1 }, play, make("h3", { textContent: song.title }), marks,
      make("span", { className: "length", textContent: clock(song.seconds) }), add, picture,
      make("p", { className: "about blinded", textContent: about }), regions,
    );
    element.addEventListener("dragstart", (event) => {
      if (event.target === element) carry(event, { id: song.id, title: song.title });
    });
    box.append(element);
    this.rows.set(song.id, { element, marks, regions, play });
    this.repaint(song.id);
  }

  repaint(id) {
    const row = this.rows.get(id);
    if (!row) return;
    const said = this.library.said(id);
    const others = this.library.others(id, "pick");
    const words = [said.rating && "★".repeat(said.rating), said.verdict && { pick: "picked", reject: "rejected" }[said.verdict], others.length && `picked by ${others.join(", ")}`];
    row.marks.textContent = words.filter(Boolean).join(" · ");
    row.element.classList.toggle("rejected", said.verdict === "reject");
    row.regions.replaceChildren(...(said.regions ?? []).map((region, at) => this.region(id, region, at)));
  }

  region(id, region, at) {
    const title = this.library.songs.get(id).title;
    const track = { id, start: region.start, stop: region.stop, title: region.title || title };
    const span = `${clock(region.start)} – ${clock(region.stop)}`;
    const button = (text, label, act) => {
      const made = make("button", { type: "button", textContent: text });
      made.setAttribute("aria-label", `${label} ${span} of ${title}`);
      made.addEventListener("click", act);
      return made;
    };
    const without = () => this.hooks.onRegions(id, this.library.said(id).regions.filter((_, other) => other !== at));
    const item = make(
      "li", { draggable: true }, button(span, "Play", () => this.hooks.onPlay(id, region.start)),
      button("+", "Add to the album", () => this.add(track)), button("×", "Remove", without),
    );
    item.addEventListener("dragstart", (event) => carry(event, track));
    return item;
  }

  current(id, playing) {
    for (const [at, row] of this.rows) {
      row.element.classList.toggle("current", at === id);
      row.element.classList.toggle("playing", at === id && playing);
      row.play.setAttribute("aria-label", `${at === id && playing ? "Pause" : "Play"} ${this.library.songs.get(at).title}`);
    }
  }

  add(track, at = this.tracks.length) {
    this.tracks.splice(at, 0, track);
    this.keep();
  }

  move(from, to) {
    const [track] = this.tracks.splice(from, 1);
    this.tracks.splice(to, 0, track);
    this.keep();
  }

  // Move a track by keys or clicks: the button that was pressed stays under the finger.
  shift(at, by) {
    const column = indexOf(document.activeElement);
    this.move(at, at + by);
    this.focus(at + by, column);
  }

  store() {
    localStorage.setItem(this.key, JSON.stringify(this.tracks));
  }

  keep() {
    this.store();
    this.tracklist();
  }

  tracklist() {
    const held = document.activeElement?.closest(".tracklist li button, .tracklist li input");
    const [row, column] = held ? [indexOf(held.parentElement), indexOf(held)] : [-1, -1];
    $("tracklist").replaceChildren(...this.tracks.map((track, at) => this.track(track, at)));
    $("tracklist").classList.toggle("bare", this.tracks.length === 0);
    $("album").querySelector("[type=submit]").disabled = this.tracks.length === 0;
    if (held) this.focus(row, column);
  }

  // A control of the tracklist, by its place; the nearest that there is.
  focus(row, column) {
    const item = $("tracklist").children[Math.min(row, this.tracks.length - 1)];
    const control = item?.children[column];
    (control?.disabled ? item.querySelector("button:not(:disabled)") : control)?.focus();
  }

  track(track, at) {
    const song = this.library.songs.get(track.id);
    const title = make("input", { value: track.title, maxLength: 200 });
    title.setAttribute("aria-label", `Title of track ${at + 1}`);
    title.addEventListener("input", () => { // at once: songs that arrive meanwhile draw the list anew
      track.title = title.value;
      this.store();
    });
    const button = (text, label, act, off = false) => {
      const made = make("button", { type: "button", textContent: text, disabled: off });
      made.setAttribute("aria-label", `${label} track ${at + 1}`);
      made.addEventListener("click", act);
      return made;
    };
    const from = track.start ?? 0;
    const to = track.stop ?? song?.seconds ?? 0;
    const part = song ? `${song.batch} ${song.song} ${clock(from)} – ${clock(to)}` : "not there any more";
    const item = make(
      "li", { draggable: true }, title, make("span", { className: "part", textContent: part }),
      button("▸", "Play", () => this.hooks.onPlay(track.id, from), !song),
      button("↑", "Move up", () => this.shift(at, -1), at === 0),
      button("↓", "Move down", () => this.shift(at, 1), at === this.tracks.length - 1),
      button("×", "Take off", () => {
        this.tracks.splice(at, 1);
        this.keep();
      }),
    );
    item.addEventListener("dragstart", (event) => carry(event, { from: at }));
    return item;
  }

  dragged(event) {
    if (!event.dataTransfer.types.includes(CARRIED)) return;
    event.preventDefault();
    if (event.type !== "drop") return;
    const items = [...$("tracklist").children];
    const middle = (item) => item.getBoundingClientRect().top + item.offsetHeight / 2;
    let at = items.findIndex((item) => event.clientY < middle(item));
    if (at < 0) at = items.length;
    const { from, ...track } = JSON.parse(event.dataTransfer.getData(CARRIED));
    if (from === undefined) this.add(track, at);
    else this.move(from, at > from ? at - 1 : at);
  }

  async write(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    const body = { name: form.get("name"), title: form.get("title"), tracks: this.tracks };
    try {
      const { file, line } = await post("/album", body);
      $("album-said").replaceChildren(make("p", { textContent: `Written: ${file}` }), command(line));
    } catch (error) {
      $("album-said").replaceChildren(make("p", { className: "wrong", textContent: error.message }));
    }
  }
}

const indexOf = (element) => [...element.parentElement.children].indexOf(element);

const CARRIED = "application/x-track";

function carry(event, track) {
  event.dataTransfer.setData(CARRIED, JSON.stringify(track));
  event.dataTransfer.effectAllowed = "copyMove";
  event.stopPropagation();
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? [];
  } catch {
    return [];
  }
}

// A command line to copy.
export function command(line) {
  const code = make("code", { textContent: line, tabIndex: 0 });
  const copy = make("button", { type: "button", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    getSelection().selectAllChildren(code); // to be seen, and to be copied by hand where the browser does not
    // Pages of other machines have no clipboard without https: there the old command copies what is selected.
    const copied = await (navigator.clipboard?.writeText(line).then(() => true, () => false) ?? document.execCommand("copy"));
    copy.textContent = copied ? "Copied" : "Selected: press ctrl C";
  });
  return make("p", { className: "command" }, code, copy);
}
