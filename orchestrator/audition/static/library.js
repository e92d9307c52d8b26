// All that the page knows: trials with their cells and clips, songs, and everyone's marks. `apply` takes what is new.

export class Library {
  constructor(facts) {
    this.facts = facts;
    this.trials = new Map(); // id -> trial
    this.clips = new Map(); // id -> {id, number, flags, cell, trial}
    this.songs = new Map(); // id -> song
    this.marks = new Map(); // id -> {heard, rating, verdict, note, regions, others}
    this.versions = [0, 0, 0];
  }

  // Returns whether the wall, the songs or the marks changed.
  apply(news) {
    this.versions = news.versions;
    for (const told of news.trials) this.take(told);
    for (const song of news.songs) this.songs.set(song.id, { ...song, kind: "song" });
    for (const [id, said] of Object.entries(news.marks)) this.marks.set(id, said);
    return { wall: news.trials.length > 0, songs: news.songs.length > 0, marks: Object.keys(news.marks) };
  }

  take(told) {
    for (const cell of this.trials.get(told.id)?.cells ?? []) for (const clip of cell.clips) this.clips.delete(clip.id);
    const trial = { ...told, number: told.name.split("-", 1)[0], byStep: new Map() };
    trial.cells = told.cells.map(([id, step, seconds, bits, clips]) => {
      const cell = { id, step, seconds, bits, trial };
      cell.clips = clips.map(([number, flags]) => ({ id: `${id}.${number}`, number, flags, cell, trial, kind: "clip" }));
      for (const clip of cell.clips) this.clips.set(clip.id, clip);
      trial.byStep.set(step, cell);
      return cell;
    });
    trial.best = Math.min(...told.evaluations.map(([, bits]) => bits));
    this.trials.set(told.id, trial);
  }

  thing(id) {
    return this.clips.get(id) ?? this.songs.get(id);
  }

  said(id) {
    return this.marks.get(id) ?? {};
  }

  badges(flags) {
    return this.facts.badges.filter((_, at) => flags & (1 << at)).map((badge) => badge.name);
  }

  broken(clip) {
    return (clip.flags & this.facts.broken) !== 0;
  }

  settings(trial) {
    const parts = this.facts.varied.map((name, at) => `${name} ${trial.values[at]}`);
    return parts.length ? parts : [trial.name];
  }

  label(trial) {
    return this.settings(trial).join(" · ");
  }

  others(id, verdict) {
    return Object.entries(this.said(id).others ?? {}).filter(([, said]) => said.verdict === verdict).map(([name]) => name);
  }
}
