// The stage at the bottom: the waveform of what plays, its spectrogram, its facts, and the listener's marks.

import WaveSurfer from "./vendor/wavesurfer.esm.js";
import Regions from "./vendor/regions.esm.js";

const $ = (id) => document.getElementById(id);
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

export class Stage {
  // hooks: titleOf(id), onRegions(id, regions)
  constructor(listener, library, hooks) {
    Object.assign(this, { listener, library, hooks });
    this.wave = WaveSurfer.create({
      container: $("wave"), height: 46, cspNonce: document.body.dataset.nonce, dragToSeek: false,
      cursorWidth: 2, barWidth: 2, barGap: 1, barRadius: 1, normalize: false, hideScrollbar: true, ...this.colours(),
    });
    this.regions = this.wave.registerPlugin(Regions.create());
    this.wave.on("interaction", (seconds) => listener.seek(seconds));
    this.regions.on("region-created", (region) => this.drawn(region));
    this.regions.on("region-updated", () => this.saveRegions());
    this.regions.on("region-clicked", (region, event) => {
      event.stopPropagation();
      listener.play(listener.id, { at: region.start });
    });
    listener.addEventListener("chosen", () => this.chosen());
    listener.addEventListener("state", () => this.state());
    listener.addEventListener("moved", () => this.moved());
    listener.addEventListener("failed", (event) => this.failed(event.detail));
  }

  colours() {
    const style = getComputedStyle(document.documentElement);
    const probe = (name) => {
      const at = document.createElement("i");
      at.style.color = `var(${name})`;
      document.body.append(at);
      const colour = getComputedStyle(at).color;
      at.remove();
      return colour || style.color;
    };
    return { waveColor: probe("--faint"), progressColor: probe("--ember"), cursorColor: probe("--text") };
  }

  recolour() {
    this.wave.setOptions(this.colours());
  }

  chosen() {
    const { id } = this.listener;
    $("now").textContent = this.hooks.titleOf(id);
    $("now").title = $("now").textContent; // where it is cut short
    this.marks();
    this.show(id);
  }

  // Draw the waveform as soon as its peaks are there; the sound may still be on its way.
  async show(id) {
    if (this.shown === id) return;
    this.shown = id;
    try {
      const about = await this.listener.ask(id);
      if (this.shown !== id || about.error) return;
      this.regionsOff?.();
      this.filling = true;
      this.regions.clearRegions();
      await this.wave.load("", [about.peaks.map((peak) => peak / 127)], about.seconds);
      const song = this.library.songs.has(id);
      if (song) {
        this.regionsOff = this.regions.enableDragSelection({ color: "rgb(249 142 43 / 0.28)" });
        this.fill(id);
      }
      this.filling = false;
      $("stage").classList.toggle("song", song);
      $("picture").src = about.picture;
      $("picture").hidden = false;
      this.facts(id, about);
      this.moved();
    } catch {
      this.filling = false; // the player tells what is wrong
    }
  }

  fill(id) {
    for (const region of this.library.said(id).regions ?? []) {
      this.regions.addRegion({ start: region.start, end: region.stop, content: region.title, color: "rgb(249 142 43 / 0.28)" });
    }
  }

  facts(id, about) {
    const { measures } = about;
    const flags = this.library.thing(id)?.flags ?? 0;
    const parts = this.hooks.blind() ? [] : this.library.badges(flags);
    const level = measures.lufs ?? measures.rms_dbfs;
    const facts = document.createDocumentFragment();
    for (const name of parts) facts.append(Object.assign(document.createElement("span"), { className: "badge", textContent: name }));
    this.time = Object.assign(document.createElement("span"), { className: "time" });
    facts.append(this.time);
    const said = this.hooks.blind() ? [] : [
      measures.novelty !== undefined && `novelty ${measures.novelty.toFixed(2)}`,
      measures.flatness !== undefined && `flatness ${measures.flatness.toFixed(3)}`,
      level !== undefined && `level ${level.toFixed(0).replace("-", "−")} ${measures.lufs == null ? "dB" : "LUFS"}`,
      this.listener.matched && `played ${about.gain > 0 ? "+" : ""}${about.gain.toFixed(1).replace("-", "−")} dB`,
    ].filter(Boolean);
    facts.append(said.map((text) => ` · ${text}`).join(""));
    if (parts.includes("copy") && measures.nearest) facts.prepend(this.beside(id, measures.nearest));
    $("about").replaceChildren(facts);
    $("about").title = [...parts, ...said].join(" · "); // where it is cut short
  }

  // The training passage that a song follows, to hear beside it.
  beside(id, nearest) {
    const text = `Hear what it copies at ${clock(nearest.at)}`;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "beside", textContent: text });
    button.addEventListener("click", () => {
      this.listener.pause();
      new Audio(`/passage/${id}`).play().catch((error) => this.failed(error.message));
    });
    return button;
  }

  state() {
    $("toggle").setAttribute("aria-label", this.listener.playing ? "Pause" : "Play");
    $("stage").classList.toggle("playing", this.listener.playing);
    this.moved();
  }

  moved() {
    if (this.shown !== this.listener.id) return;
    const { position, length } = this.listener;
    const text = `${clock(position)} / ${clock(length)}`;
    if (this.time && this.time.textContent !== text) this.time.textContent = text;
    if (length) this.wave.setTime(Math.min(position, length));
  }

  failed(reason) {
    $("about").textContent = `can't be played: ${reason}`;
    this.state();
  }

  marks() {
    const said = this.library.said(this.listener.id);
    for (const star of $("stars").children) {
      const value = Number(star.dataset.rating);
      star.classList.toggle("on", value <= (said.rating ?? 0));
      star.setAttribute("aria-pressed", value === said.rating);
    }
    $("pick").setAttribute("aria-pressed", said.verdict === "pick");
    $("reject").setAttribute("aria-pressed", said.verdict === "reject");
    if (document.activeElement !== $("note")) $("note").value = said.note ?? "";
  }

  drawn(region) {
    if (this.filling) return;
    if (region.end - region.start < 0.05) region.remove();
    else this.saveRegions();
  }

  add(start, stop) {
    this.regions.addRegion({ start, end: stop, color: "rgb(249 142 43 / 0.28)" });
  }

  saveRegions() {
    if (this.filling || !this.library.songs.has(this.shown)) return;
    const round = (seconds) => Math.round(seconds * 1000) / 1000;
    const regions = this.regions.getRegions().map((region) => ({
      start: round(region.start), stop: round(region.end), title: region.content?.textContent ?? "",
    }));
    this.hooks.onRegions(this.shown, regions.sort((a, b) => a.start - b.start));
  }

  // Draw the regions anew after one was taken away elsewhere.
  refill() {
    this.filling = true;
    this.regions.clearRegions();
    this.fill(this.shown);
    this.filling = false;
  }
}
