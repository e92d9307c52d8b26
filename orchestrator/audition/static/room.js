// The listening room: what the parts say to each other, the keys, and the question what is new.

import { Desk, command, make } from "./songs.js";
import { Keeper } from "./marks.js";
import { Library } from "./library.js";
import { Listener } from "./listen.js";
import { BITS, SHOWN, SORTS, makeView, sortOrder } from "./view.js";
import { Stage } from "./stage.js";
import { Wall } from "./wall.js";
import { get, getJson } from "./net.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000;
const HIDDEN_POLL_MS = 15000;
const READING_POLL_MS = 250;
const COLOURS = 7; // lines with a colour of their own, as in pages/curves.py
const TABS = ["wall", "curves", "songs", "picks"];
const THEMES = ["", "light", "dark"];

const facts = JSON.parse(document.body.dataset.facts);
const library = new Library(facts);
const choice = { values: {}, state: "any", bits: "1", shown: "all", badge: "any", sort: "bits", blind: 0 };
let order = [];
let view = { rows: [], columns: [], clips: [], matches: () => true };
let tab = "wall";
let me = localStorage.getItem("listener") || document.body.dataset.listener;
let regionStart = null;

const listener = new Listener();
const wall = new Wall($("wall"), library, (id, keep) => chosen(id, keep));
const keeper = new Keeper(library, repaint, saved);
const stage = new Stage(listener, library, { titleOf, blind: () => choice.blind !== 0, onRegions: setRegions });
const desk = new Desk(library, { onPlay: (id, at) => chosen(id, false, at), onRegions: setRegions });

// Listening

function chosen(id, keep = false, at = undefined) {
  if (id === listener.id && !keep && at === undefined) listener.toggle();
  else listener.play(id, { keep, at: at ?? 0 });
}

function titleOf(id) {
  const thing = library.thing(id);
  if (!thing) return "";
  if (thing.kind === "song") return choice.blind ? `Song ${[...library.songs.keys()].indexOf(id) + 1}` : thing.title;
  const place = wall.place(id);
  if (choice.blind) return place ? `Model ${place.row + 1}, ${place.column + 1}, clip ${thing.number + 1}` : "A clip";
  return `${thing.trial.number} · step ${thing.cell.step.toLocaleString("en")} · clip ${thing.number + 1} · ${library.label(thing.trial)}`;
}

listener.addEventListener("chosen", () => {
  wall.select(listener.id, tab === "wall");
  desk.current(listener.id, listener.playing);
});
listener.addEventListener("state", () => {
  desk.current(listener.id, listener.playing);
  const next = beside("clip", 1);
  if (listener.playing && next) listener.prepare(next);
});
listener.addEventListener("moved", () => listener.length && wall.progress(listener.id, listener.position / listener.length));
listener.addEventListener("heard", (event) => {
  if (!library.said(event.detail).heard) keeper.set(me, event.detail, { heard: true });
});

// The id of the clip beside the current one: by clip, checkpoint or trial.
function beside(unit, by) {
  if (tab === "songs") {
    const songs = [...library.songs.keys()];
    return songs[Math.max(0, songs.indexOf(listener.id) + by)];
  }
  const { rows, clips } = view;
  if (!rows.length) return null;
  const place = wall.place(listener.id);
  if (!place) return clips[0]?.id;
  const clip = library.clips.get(listener.id);
  if (unit === "clip") return clips[clips.findIndex((at) => at.id === clip.id) + by]?.id;
  const pick = (cell) => cell.clips[Math.min(clip.cell.clips.indexOf(clip), cell.clips.length - 1)]?.id;
  if (unit === "checkpoint") {
    const { cells } = rows[place.row];
    for (let at = place.column + by; at >= 0 && at < cells.length; at += by) if (cells[at]) return pick(cells[at]);
    return null;
  }
  for (let at = place.row + by; at >= 0 && at < rows.length; at += by) {
    const near = rows[at].cells.map((cell, column) => [cell, Math.abs(column - place.column)]).filter(([cell]) => cell);
    if (near.length) return pick(near.sort((a, b) => a[1] - b[1])[0][0]);
  }
  return null;
}

function unheard() {
  const things = tab === "songs" ? [...library.songs.values()] : view.clips.filter(view.matches);
  const from = things.findIndex((thing) => thing.id === listener.id);
  const turned = [...things.slice(from + 1), ...things.slice(0, from + 1)];
  return turned.find((thing) => !library.said(thing.id).heard && !library.broken(thing))?.id;
}

function go(id) {
  if (id) listener.play(id);
}

function seek(by) {
  const { position, length } = listener;
  if (length) listener.seek(Math.min(Math.max(position + by * Math.min(5, length / 10), 0), length));
}

// Marks

function repaint(id) {
  wall.repaint(id);
  desk.repaint(id);
  if (id === listener.id) stage.marks();
  tally();
}

function mark(fields) {
  if (listener.id) keeper.set(me, listener.id, fields);
}

const rate = (value) => mark({ rating: library.said(listener.id).rating === value ? null : value });
const judge = (verdict) => mark({ verdict: library.said(listener.id).verdict === verdict ? null : verdict });

function setRegions(id, regions) {
  keeper.set(me, id, { regions });
  if (id === stage.shown && regions.length !== stage.regions.getRegions().length) stage.refill();
}

function region(end) {
  if (!library.songs.has(listener.id)) return;
  if (!end) regionStart = listener.position;
  else if (regionStart !== null && listener.position > regionStart) {
    stage.add(regionStart, listener.position);
    regionStart = null;
  }
}

function saved(text, wrong) {
  const line = $("saved");
  line.ariaBusy = keeper.queue.length > 0;
  if (!text) return; // a mark has set out: what was told of the one before stays, or it would flicker
  line.textContent = text;
  line.classList.toggle("wrong", wrong);
}

// What is shown

function refresh() {
  const known = new Set(order);
  order = order.concat([...library.trials.keys()].filter((id) => !known.has(id)));
  view = makeView(library, choice, order);
  wall.show(view);
  const none = view.rows.length === 0 || library.clips.size === 0;
  $("empty").hidden = !none;
  $("wall").hidden = none;
  $("empty").textContent = library.clips.size === 0
    ? "No clips yet: they appear here as checkpoints are made." : "No clip is like that; take a filter away.";
  tally();
}

function sort() {
  order = sortOrder(library, choice.sort);
  refresh();
}

function tally() {
  let [heard, picked] = [0, 0];
  for (const [id, said] of library.marks) {
    if (!library.clips.has(id)) continue;
    heard += said.heard ? 1 : 0;
    picked += said.verdict === "pick" ? 1 : 0;
  }
  const number = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
  $("progress").textContent = `${number(library.trials.size, "trial")} · ${number(library.clips.size, "clip")} · ${heard.toLocaleString("en")} heard · ${picked.toLocaleString("en")} picked`;
}

function choices() {
  const form = $("choices");
  const values = [...library.trials.values()];
  const select = (name, label, options, current) => {
    const box = make("select", { name });
    box.append(...options.map(([value, text]) => make("option", { value, textContent: text, selected: value === current })));
    return make("label", {}, label, box);
  };
  const parts = facts.varied.map((name, at) => {
    const there = [...new Set(values.map((trial) => trial.values[at]))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    return select(`value ${name}`, name, [["", "all"], ...there.map((value) => [value, value])], choice.values[name] ?? "");
  });
  const states = [...new Set(values.map((trial) => trial.state))].sort();
  const badges = facts.badges.filter((_, at) => [...library.clips.values()].some((clip) => clip.flags & (1 << at)));
  const sorts = Object.keys(SORTS).filter((name) => !["novelty", "variety_db"].includes(name) || values.some((trial) => name in trial.sorts));
  parts.push(
    select("state", "state", [["any", "any"], ...states.map((state) => [state, state])], choice.state),
    select("bits", "bits", BITS, choice.bits),
    select("shown", "show", Object.entries(SHOWN).map(([name, [text]]) => [name, text]), choice.shown),
    select("badge", "badges", [["any", "any"], ["none", "none"], ...badges.map(({ name }) => [name, name])], choice.badge),
    select("sort", "sort by", sorts.map((name) => [name, SORTS[name][0]]), choice.sort),
  );
  form.replaceChildren(...parts);
}

function open(name) {
  tab = name;
  for (const at of TABS) {
    $(`tab-${at}`).setAttribute("aria-selected", at === name);
    $(`tab-${at}`).tabIndex = at === name ? 0 : -1;
    $(`panel-${at}`).hidden = at !== name;
  }
  if (name === "wall") wall.later();
  if (name === "curves") curves();
  if (name === "songs") desk.show();
  if (name === "picks") picks();
}

async function curves() {
  try {
    const text = await (await get("/curves")).text();
    const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    $("curves").replaceChildren(document.importNode(svg, true));
    const ranked = [...library.trials.values()].filter((trial) => Number.isFinite(trial.best)).sort((a, b) => a.best - b.best);
    const entry = (colour, text) => make("li", {}, make("span", { className: `key ${colour}` }), make("span", { textContent: text }));
    const others = ranked.length - COLOURS;
    $("legend").replaceChildren(
      ...ranked.slice(0, COLOURS).map((trial, at) => entry(`c${at}`, `${trial.number} · ${library.label(trial)}`)),
      ...(others > 0 ? [entry("quiet", `${others} ${others > 1 ? "others" : "other"}`)] : []),
    );
  } catch (error) {
    $("curves").textContent = error.message;
  }
}

async function picks() {
  try {
    const { picked, line } = await getJson("/generate");
    const all = picked.length > 1;
    $("picks-lead").replaceChildren(...(picked.length
      ? [`${picked.length} ${all ? "checkpoints" : "checkpoint"}, kept when others are pruned. This command makes songs of ${all ? "all of them" : "it"}; they arrive under Songs.`]
      : ["Nothing is picked yet. Press ", make("kbd", { textContent: "p" }), " while a clip plays: its checkpoint is kept when others are pruned."]));
    $("picks").replaceChildren(...(line ? [command(line)] : []), make("ul", { className: "picked" }, ...picked.map(pickedOne)));
  } catch (error) {
    $("picks-lead").textContent = error.message;
  }
}

// A picked checkpoint; a press plays the clip that was picked, or its first.
function pickedOne({ trial: id, step }) {
  const trial = library.trials.get(id);
  const cell = trial?.byStep.get(step);
  const liked = (clip) => library.said(clip.id).verdict === "pick" || library.others(clip.id, "pick").length > 0;
  const clip = cell?.clips.find(liked) ?? cell?.clips[0];
  const name = `${trial.number} · step ${step.toLocaleString("en")}`;
  const play = make("button", { type: "button", disabled: !clip, textContent: choice.blind ? "Play" : `▸ ${name}` });
  play.addEventListener("click", () => chosen(clip.id));
  const about = [library.label(trial), Number.isFinite(cell?.bits) && `${cell.bits.toFixed(3)} bits`].filter(Boolean).join(" · ");
  return make("li", {}, play, make("span", { className: "blinded", textContent: about }));
}

function setBlind(on) {
  choice.blind = on ? 1 + Math.floor(Math.random() * 2 ** 31) : 0;
  $("blind").setAttribute("aria-pressed", on);
  document.body.classList.toggle("blind", on);
  $("tab-curves").disabled = on;
  if (on && tab === "curves") open("wall");
  if (on) $("filters").open = false;
  refresh();
  $("wall").scrollTo(0, 0);
  if (!listener.id) return;
  $("now").textContent = $("now").title = titleOf(listener.id);
  if (listener.about) stage.facts(listener.id, listener.about);
}

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("theme", name);
  $("theme").setAttribute("aria-label", `Colours: ${name || "as the system"}`);
  $("theme").title = `Colours: ${name || "as the system"}; press for the next`;
  stage.recolour();
}

// News

async function ask() {
  const before = listener.id && library.thing(listener.id);
  try {
    const news = await getJson(`/news?since=${library.versions.join(".")}&listener=${encodeURIComponent(me)}`);
    const first = library.trials.size === 0;
    const changed = library.apply(news);
    keeper.reapply();
    trouble(news.trouble);
    if (first || !news.ready) order = changed.wall ? sortOrder(library, choice.sort) : order;
    if (changed.wall) {
      choices();
      refresh();
    }
    if (changed.songs && tab === "songs") desk.show();
    for (const id of changed.marks) repaint(id);
    if (before && !library.thing(listener.id)) saved("this clip is not there any more", true);
    return news.ready ? null : READING_POLL_MS;
  } catch (error) {
    trouble(error.status ? error.message : "the server does not answer; is the command still running?");
    return null;
  }
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

async function poll() {
  const soon = await ask();
  clearTimeout(poll.timer);
  poll.timer = setTimeout(poll, soon ?? (document.hidden ? HIDDEN_POLL_MS : POLL_MS));
}

// Controls

const KEYS = {
  " ": () => (listener.id ? listener.toggle() : go(beside("clip", 0))),
  ArrowRight: (event) => go(beside(event.shiftKey ? "checkpoint" : "clip", 1)),
  ArrowLeft: (event) => go(beside(event.shiftKey ? "checkpoint" : "clip", -1)),
  ArrowDown: () => go(beside("trial", 1)),
  ArrowUp: () => go(beside("trial", -1)),
  0: () => mark({ rating: null }),
  p: () => judge("pick"),
  x: () => judge("reject"),
  n: () => go(unheard()),
  b: () => listener.flip(),
  t: () => $("note").focus(),
  ",": () => seek(-1),
  ".": () => seek(1),
  "[": () => region(false),
  "]": () => region(true),
  "?": () => $("keys").showModal(),
};
for (const value of [1, 2, 3, 4, 5]) KEYS[value] = () => rate(value);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.target.closest("input, select, textarea, summary")) return;
  if (event.target.closest("button:not(.clip)") && [" ", "Enter"].includes(event.key)) return;
  if (event.target.closest("[role=tab]") && event.key.startsWith("Arrow")) return;
  const act = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act(event);
});

document.addEventListener("keyup", (event) => event.key === " " && event.target.closest(".clip") && event.preventDefault());

$("toggle").addEventListener("click", () => KEYS[" "]());
$("previous").addEventListener("click", () => go(beside("clip", -1)));
$("next").addEventListener("click", () => go(beside("clip", 1)));
$("pick").addEventListener("click", () => judge("pick"));
$("reject").addEventListener("click", () => judge("reject"));
$("flip").addEventListener("click", () => listener.flip());
$("stars").addEventListener("click", (event) => event.target.dataset.rating && rate(Number(event.target.dataset.rating)));
$("match").addEventListener("click", () => {
  listener.match(!listener.matched);
  $("match").setAttribute("aria-pressed", listener.matched);
  if (listener.about) stage.facts(listener.id, listener.about);
});
$("note").addEventListener("change", () => mark({ note: $("note").value.trim() || null }));
$("note").addEventListener("keydown", (event) => ["Enter", "Escape"].includes(event.key) && $("note").blur());
$("blind").addEventListener("click", () => setBlind(!choice.blind));
$("help").addEventListener("click", () => $("keys").showModal());
$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % 3]));
$("listener").addEventListener("change", async () => {
  me = $("listener").value.trim() || document.body.dataset.listener;
  localStorage.setItem("listener", me);
  library.marks.clear();
  library.versions = [library.versions[0], library.versions[1], 0];
  await ask();
  refresh();
});
$("choices").addEventListener("change", (event) => {
  const { name, value } = event.target;
  if (name.startsWith("value ")) choice.values[name.slice(6)] = value;
  else choice[name] = value;
  if (name === "sort") sort();
  else refresh();
  $("wall").scrollTop = 0;
});
$("choices").addEventListener("submit", (event) => event.preventDefault());
document.querySelector(".tabs").addEventListener("click", (event) => event.target.id?.startsWith("tab-") && open(event.target.id.slice(4)));
document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const there = TABS.filter((at) => !$(`tab-${at}`).disabled);
  const next = there[(there.indexOf(tab) + by + there.length) % there.length];
  open(next);
  $(`tab-${next}`).focus();
});
document.addEventListener("visibilitychange", () => document.hidden || poll());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => stage.recolour());
matchMedia("(max-width: 40rem)").addEventListener("change", () => wall.show(view));

if (matchMedia("(max-width: 40rem)").matches) $("filters").open = false;
$("listener").value = me;
setTheme(localStorage.getItem("theme") ?? "");
poll();
