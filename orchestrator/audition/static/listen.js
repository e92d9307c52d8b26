// One player. Sounds are decoded whole, so that a switch between two is gapless and at the same sample; long songs
// stream by ranges instead. Both go through a gain of their own, which makes all equally loud and fades at switches.

import { get, getJson } from "./net.js";

const FADE_S = 0.012;
const STREAM_S = 150; // longer ones are streamed
const KEPT_BYTES = 96 * 2 ** 20; // of decoded audio
const HEARD_S = 3;

class BufferDeck {
  constructor(context, buffer, ended) {
    Object.assign(this, { context, buffer, ended, length: buffer.duration });
  }

  start(offset, gain) {
    this.gain = this.context.createGain();
    this.source = new AudioBufferSourceNode(this.context, { buffer: this.buffer });
    this.source.connect(this.gain).connect(this.context.destination);
    this.source.onended = () => this.source && this.ended();
    this.began = this.context.currentTime - offset;
    this.source.start(0, offset);
    fade(this.context, this.gain, 0, gain);
  }

  stop() {
    const { source, gain } = this;
    if (!source) return;
    this.source = null;
    fade(this.context, gain, gain.gain.value, 0);
    source.stop(this.context.currentTime + FADE_S);
  }

  get position() {
    return Math.min(this.context.currentTime - this.began, this.length);
  }
}

class StreamDeck {
  constructor(context, address, length, ended, failed) {
    Object.assign(this, { context, length });
    this.element = new Audio(address);
    this.element.onended = ended;
    this.element.onerror = failed;
    this.gain = context.createGain();
    context.createMediaElementSource(this.element).connect(this.gain).connect(context.destination);
  }

  async start(offset, gain) {
    this.gain.gain.value = 0;
    this.element.currentTime = offset;
    await this.element.play();
    fade(this.context, this.gain, 0, gain);
  }

  stop() {
    fade(this.context, this.gain, this.gain.gain.value, 0);
    setTimeout(() => this.element.pause(), 1000 * FADE_S);
  }

  get position() {
    return this.element.currentTime;
  }
}

function fade(context, node, from, to) {
  const now = context.currentTime;
  node.gain.cancelScheduledValues(now);
  node.gain.setValueAtTime(from, now);
  node.gain.linearRampToValueAtTime(to, now + FADE_S);
}

export class Listener extends EventTarget {
  constructor() {
    super();
    this.id = null; // what is chosen
    this.about = null; // what the server says of it
    this.before = null; // what was chosen before it
    this.deck = null; // what sounds
    this.at = 0; // seconds, while nothing sounds
    this.matched = true;
    this.abouts = new Map();
    this.buffers = new Map(); // id -> AudioBuffer, the latest last
    this.whole = new Set(); // long ones that can't be streamed
    this.turn = 0;
  }

  get playing() {
    return this.deck !== null;
  }

  get position() {
    return this.deck ? this.deck.position : this.at;
  }

  get length() {
    return this.about?.seconds ?? 0;
  }

  // Choose a sound and play it; `keep` goes on at the position of the one before, which sounds until this one does.
  async play(id, { keep = false, at = 0 } = {}) {
    const turn = ++this.turn;
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    if (this.context.state === "suspended") this.context.resume();
    if (id !== this.id) this.before = this.id;
    this.id = id;
    this.tell("chosen");
    try {
      const about = await this.ask(id);
      if (about.error) throw new Error(about.error);
      const deck = await this.load(id, about);
      if (turn !== this.turn) return;
      const from = keep ? this.position : at;
      const offset = from < deck.length - 0.02 ? Math.max(0, from) : 0;
      const old = this.deck;
      this.about = about;
      this.wanted = offset;
      const started = deck.start(offset, this.gainOf(about));
      if (started) await started; // a stream sounds later than it is asked to
      if (turn !== this.turn) {
        if (started) deck.stop();
        return;
      }
      old?.stop();
      this.deck = deck;
      this.at = offset;
      if (old === null || this.heardId !== id) this.heardSeconds = 0;
      this.heardId = id;
      this.tell("state");
      this.run();
    } catch (error) {
      if (turn !== this.turn) return;
      this.deck?.stop();
      this.deck = null;
      this.tell("failed", error.message);
    }
  }

  async ask(id) {
    if (!this.abouts.has(id)) this.abouts.set(id, await getJson(`/about/${id}`));
    return this.abouts.get(id);
  }

  async load(id, about) {
    const ended = () => this.over(id);
    if (about.seconds > STREAM_S && !this.whole.has(id)) {
      // Chromium gives some FLAC files up when it is to jump near their end: those are decoded whole.
      const failed = () => {
        this.whole.add(id);
        if (this.id === id) this.play(id, { at: this.wanted });
      };
      return new StreamDeck(this.context, about.audio, about.seconds, ended, failed);
    }
    return new BufferDeck(this.context, await this.decoded(id, about), ended);
  }

  async decoded(id, about) {
    let buffer = this.buffers.get(id);
    this.buffers.delete(id);
    buffer ??= await this.context.decodeAudioData(await (await get(about.audio)).arrayBuffer());
    this.buffers.set(id, buffer);
    let bytes = 0;
    for (const at of [...this.buffers.keys()].reverse()) {
      bytes += 4 * this.buffers.get(at).length;
      if (bytes > KEPT_BYTES && at !== id) this.buffers.delete(at);
    }
    return buffer;
  }

  // Have a sound ready before it is asked for.
  async prepare(id) {
    try {
      const about = await this.ask(id);
      if (this.context && !about.error && about.seconds <= STREAM_S) await this.decoded(id, about);
    } catch {
      // it is told when it is played
    }
  }

  pause() {
    this.turn++;
    this.at = this.position;
    this.deck?.stop();
    this.deck = null;
    this.tell("state");
  }

  toggle() {
    if (this.playing) this.pause();
    else if (this.id) this.play(this.id, { at: this.at });
  }

  seek(seconds) {
    const at = Math.min(Math.max(seconds, 0), Math.max(0, this.length - 0.05));
    if (this.playing) this.play(this.id, { at });
    else this.at = at;
    this.tell("moved");
  }

  flip() {
    if (this.before) this.play(this.before, { keep: true });
  }

  match(on) {
    this.matched = on;
    if (this.deck && this.about) fade(this.context, this.deck.gain, this.deck.gain.gain.value, this.gainOf(this.about));
  }

  gainOf(about) {
    return this.matched ? 10 ** (about.gain / 20) : 1;
  }

  over(id) {
    if (this.id !== id) return;
    this.deck = null;
    this.at = 0;
    this.markHeard();
    this.tell("state");
    this.tell("ended");
  }

  run() {
    cancelAnimationFrame(this.frame);
    let last = performance.now();
    const step = (now) => {
      if (!this.playing) return;
      this.heardSeconds += (now - last) / 1000;
      last = now;
      if (this.heardSeconds >= Math.min(HEARD_S, this.length / 2)) this.markHeard();
      this.tell("moved");
      this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  markHeard() {
    if (this.heardId) this.tell("heard", this.heardId);
  }

  tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
