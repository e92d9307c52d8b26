// The player: every .player on the page plays through one audio element. The picture in .seek is the seek surface.
"use strict";

(() => {
  const SKIP_SECONDS = 5;
  const BACK_SECONDS = 1;
  const audio = new Audio();
  const players = [...document.querySelectorAll(".player[data-audio]")];
  const dock = document.querySelector(".dock");
  const dockSeek = dock.querySelector(".seek");
  let current = null;
  let startAt = 0; // share of the length to start from, once the length is known
  let length = 0; // seconds
  let sought = 0; // seconds: where the last jump went
  let dragged = null;

  const clock = (seconds) => {
    const whole = Math.max(0, Math.floor(seconds + 0.05));
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  };

  const playing = () => !audio.paused && !audio.ended;
  const share = () => (audio.duration > 0 ? audio.currentTime / audio.duration : startAt);
  const start = () => audio.play().catch(() => {}); // what goes wrong is told by the error event
  const surfaces = () => (current ? [current.querySelector(".seek"), dockSeek] : []);

  function load(player, from) {
    leave();
    current = player;
    startAt = from;
    length = sought = 0;
    audio.src = player.dataset.audio;
    player.classList.add("current");
    const picture = player.querySelector(".seek img").cloneNode();
    picture.alt = "";
    picture.loading = "eager";
    dockSeek.replaceChildren(picture);
    dockSeek.setAttribute("aria-label", `Position in ${player.dataset.title}`);
    dock.querySelector(".now-title").textContent = player.dataset.title;
    dock.hidden = false;
    document.body.classList.add("docked");
  }

  function leave() {
    if (!current) return;
    audio.pause();
    current.classList.remove("current", "playing");
    current.querySelector(".play").setAttribute("aria-label", `Play ${current.dataset.title}`);
    current.querySelector(".seek").style.removeProperty("--at");
  }

  function play(player, from = 0) {
    if (player !== current || audio.error) load(player, from);
    start();
  }

  function toggle(player) {
    if (player === current && playing()) audio.pause();
    else play(player);
  }

  function beside(offset) {
    const group = players.filter((player) => player.dataset.group === (current || players[0]).dataset.group);
    return group[current ? group.indexOf(current) + offset : 0];
  }

  function move(offset) {
    const player = players.length ? beside(offset) : null;
    if (!player) return;
    play(player);
    player.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function seek(player, to) {
    const at = Math.min(Math.max(to, 0), 0.9999);
    if (player !== current) play(player, at);
    else if (audio.duration > 0) jump(at);
    else startAt = at;
    draw();
  }

  function jump(at) {
    sought = at * audio.duration;
    audio.currentTime = sought;
  }

  // Chromium can't jump into the last part of some FLAC files and gives the file up: load it again, go less far.
  function recover() {
    if (!current) return;
    if (!sought) {
      dock.querySelector(".now-title").textContent = `${current.dataset.audio} can't be played`;
      return;
    }
    const on = !audio.paused;
    sought = Math.max(0, sought - BACK_SECONDS);
    startAt = sought / length;
    audio.src = current.dataset.audio;
    if (on) start();
  }

  const skip = (seconds) => current && audio.duration > 0 && seek(current, share() + seconds / audio.duration);

  function draw() {
    const text = `${clock(share() * length)} of ${clock(length)}`;
    for (const surface of surfaces()) {
      surface.style.setProperty("--at", `${100 * share()}%`);
      surface.setAttribute("aria-valuemax", Math.round(length));
      surface.setAttribute("aria-valuenow", Math.round(share() * length));
      surface.setAttribute("aria-valuetext", text);
    }
    dock.querySelector(".now-time").textContent = length ? text.replace(" of ", " / ") : "";
  }

  function animate() {
    draw();
    if (playing()) requestAnimationFrame(animate);
  }

  function state() {
    if (!current) return;
    const on = playing();
    for (const at of [current, dock]) at.classList.toggle("playing", on);
    dock.querySelector(".toggle").setAttribute("aria-label", on ? "Pause" : "Play");
    current.querySelector(".play").setAttribute("aria-label", `${on ? "Pause" : "Play"} ${current.dataset.title}`);
    if (on) requestAnimationFrame(animate);
    else draw();
  }

  audio.addEventListener("loadedmetadata", () => {
    length = audio.duration;
    if (startAt) jump(startAt);
    draw();
  });
  audio.addEventListener("error", recover);
  for (const kind of ["play", "pause", "ended", "seeked"]) audio.addEventListener(kind, state);
  audio.addEventListener("ended", () => {
    if (current && "continue" in current.dataset && beside(1)) play(beside(1));
  });

  function onSurface(surface, player) {
    const place = (event) => {
      const box = surface.getBoundingClientRect();
      seek(player(), (event.clientX - box.left) / box.width);
    };
    surface.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !player()) return;
      event.preventDefault(); // the keyboard stays with the page, where arrows go to the next
      if (document.activeElement) document.activeElement.blur();
      dragged = surface;
      surface.setPointerCapture(event.pointerId);
      if (!playing() || player() !== current) play(player());
      place(event);
    });
    surface.addEventListener("pointermove", (event) => dragged === surface && place(event));
    for (const kind of ["pointerup", "pointercancel"]) surface.addEventListener(kind, () => (dragged = null));
    surface.addEventListener("keydown", (event) => {
      const owner = player();
      if (!owner || event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowLeft: -SKIP_SECONDS, ArrowDown: -SKIP_SECONDS, ArrowRight: SKIP_SECONDS, ArrowUp: SKIP_SECONDS };
      if (event.key === "Enter" || event.key === " ") toggle(owner);
      else if (event.key === "Home") seek(owner, 0);
      else if (event.key === "End") seek(owner, 1);
      else if (event.key in step && owner === current) skip(step[event.key]);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  for (const player of players) {
    const button = player.querySelector(".play");
    button.setAttribute("role", "button");
    button.addEventListener("click", (event) => {
      event.preventDefault();
      toggle(player);
    });
    button.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      toggle(player);
    });
    onSurface(player.querySelector(".seek"), () => player);
  }
  onSurface(dockSeek, () => current);
  dock.querySelector(".toggle").addEventListener("click", () => toggle(current));
  dock.querySelector(".previous").addEventListener("click", () => move(-1));
  dock.querySelector(".next").addEventListener("click", () => move(1));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !players.length) return;
    if (event.target.closest("input, select, textarea, summary, .scroll:focus")) return;
    if (event.key === " " && !event.target.closest("button, a")) toggle(current || players[0]);
    else if (event.key === "ArrowRight") event.shiftKey ? skip(SKIP_SECONDS) : move(1);
    else if (event.key === "ArrowLeft") event.shiftKey ? skip(-SKIP_SECONDS) : move(-1);
    else return;
    event.preventDefault();
  });
})();
