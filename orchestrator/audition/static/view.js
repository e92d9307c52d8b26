// What the wall shows of the library: filtered, sorted, and in blind mode without names and shuffled.

export const SHOWN = {
  all: ["everything", () => true],
  unheard: ["unheard", (said) => !said.heard],
  picked: ["picked", (said, others) => said.verdict === "pick" || others > 0],
  good: ["rated 4 or 5", (said) => said.rating >= 4],
  unrated: ["heard, not rated", (said) => said.heard && !said.rating],
  kept: ["not rejected", (said) => said.verdict !== "reject"],
};

// Trials by their fewest validation bits: so large a share of those that have any.
export const BITS = [["1", "any"], ["0.5", "best half"], ["0.25", "best quarter"], ["0.1", "best tenth"]];

export const SORTS = {
  bits: ["bits", (trial) => trial.best],
  number: ["number", (trial) => Number(trial.number)],
  newest: ["newest clips", (trial) => -(trial.cells.at(-1)?.seconds ?? -1)],
  rating: ["your rating", (trial, library) => -meanRating(trial, library)],
  novelty: ["novelty", (trial) => -(trial.sorts.novelty ?? -Infinity)],
  variety_db: ["variety", (trial) => -(trial.sorts.variety_db ?? -Infinity)],
};

function meanRating(trial, library) {
  const ratings = trial.cells.flatMap((cell) => cell.clips.map((clip) => library.said(clip.id).rating)).filter(Boolean);
  return ratings.length ? ratings.reduce((a, b) => a + b) / ratings.length : 0;
}

// choice: {values: {name: value}, state, bits, shown, badge, sort, blind: 0 or a seed}
export function makeView(library, choice, order) {
  const random = choice.blind ? seeded(choice.blind) : null;
  const matches = matcher(library, choice);
  const most = mostBits(library, Number(choice.bits));
  const trials = order.map((id) => library.trials.get(id)).filter((trial) => trial && trialMatches(library, trial, choice, most));
  const steps = [...new Set(trials.flatMap((trial) => trial.cells.map((cell) => cell.step)))].sort((a, b) => a - b);
  const anyOf = (trial) => trial.cells.some((cell) => cell.clips.some(matches));
  const filtering = choice.shown !== "all" || choice.badge !== "any";
  let rows = trials.filter((trial) => !filtering || anyOf(trial)).map((trial) => ({
    trial,
    cells: steps.map((step) => trial.byStep.get(step) ?? null),
  }));
  if (random) {
    rows = shuffled([...rows].sort((a, b) => (a.trial.id < b.trial.id ? -1 : 1)), random);
    for (const row of rows) row.cells = shuffled(row.cells.filter(Boolean), random);
  }
  const width = rows.reduce((most, row) => Math.max(most, row.cells.length), 0);
  const columns = random ? Array.from({ length: width }, () => "") : steps.map((step) => `step ${step.toLocaleString("en")}`);
  const clips = rows.flatMap((row) => row.cells.flatMap((cell) => (cell ? cell.clips : [])));
  return { rows, columns, matches, clips, blind: Boolean(random) };
}

// The ids of all trials in the order that was asked for; new ones come last until it is asked for again.
export function sortOrder(library, sort) {
  const key = new Map([...library.trials.values()].map((trial) => [trial.id, SORTS[sort][1](trial, library)]));
  const number = (id) => Number(library.trials.get(id).number);
  return [...key.keys()].sort((a, b) => key.get(a) - key.get(b) || number(a) - number(b));
}

function mostBits(library, share) {
  if (share === 1) return Infinity;
  const bits = [...library.trials.values()].map((trial) => trial.best).filter(Number.isFinite).sort((a, b) => a - b);
  return bits[Math.max(0, Math.ceil(share * bits.length) - 1)];
}

function trialMatches(library, trial, choice, most) {
  if (choice.state !== "any" && trial.state !== choice.state) return false;
  if (most !== Infinity && !(trial.best <= most)) return false;
  return library.facts.varied.every((name, at) => !choice.values[name] || choice.values[name] === trial.values[at]);
}

function matcher(library, choice) {
  const [, shown] = SHOWN[choice.shown];
  const bit = library.facts.badges.findIndex((badge) => badge.name === choice.badge);
  return (clip) => {
    if (choice.badge === "none" && clip.flags) return false;
    if (bit >= 0 && !(clip.flags & (1 << bit))) return false;
    return shown(library.said(clip.id), library.others(clip.id, "pick").length);
  };
}

function seeded(seed) {
  let state = seed >>> 0; // mulberry32
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function shuffled(list, random) {
  const mixed = [...list];
  for (let last = mixed.length - 1; last > 0; last--) {
    const at = Math.floor(random() * (last + 1));
    [mixed[last], mixed[at]] = [mixed[at], mixed[last]];
  }
  return mixed;
}
