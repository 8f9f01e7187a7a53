"use strict";
// One clip and two captions, or two sounds: which one is better. Whose they are is not told, so nothing here knows it.

const SOUNDS = document.querySelector('meta[name="pairs"]') !== null;
const API = SOUNDS ? "/api/sounds/" : "/api/compare/";

const video = $("video");
const SAID = { left: "left", right: "right", equal: "equally good", both_bad: "both bad", skip: "skipped" };
const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;
let pair = null,
  saveId = "",
  began = 0,
  busy = false,
  renewals = 0;

// -- what is shown

function counts(said) {
  $("progress").textContent = said.done + " of " + said.of + " pairs · " + said.mine + " by you";
  $("bar").max = Math.max(1, said.of);
  $("bar").value = said.done;
}

function show(next, result, num_pairs) {
  pair = next;
  saveId = newId();
  clearInterval(renewals);
  $("work").hidden = !pair;
  $("done").hidden = Boolean(pair);
  if (!pair) {
    video.removeAttribute("src");
    video.load();
    const waits = SOUNDS ? "No pairs wait: no edited sound stands." : "No pairs wait: two rounds have to write of the same clips.";
    const none = num_pairs
      ? "The pairs that are left lie before others. Look again later."
      : waits;
    $("done-words").textContent = result ? told(result) : none;
    const title = num_pairs ? "No pair is free for you now" : "Nothing to compare yet";
    $("done-title").textContent = result ? "All done. Thank you!" : title;
    $("done-title").focus();
    return;
  }
  if (SOUNDS) mark("left");
  else for (const side of ["left", "right"]) $(side).textContent = pair[side];
  began = performance.now();
  renewals = setInterval(renew, (pair.lease_s * 1000) / 3);
  showVideo(pair);
  showHistory();
}

// Only now that all is chosen: whose texts they were.
function told(result) {
  if (SOUNDS)
    return (
      "You preferred the edited sound of " + result.chosen[1] + ", the original of " + result.chosen[0] +
      ", neither of " + (result.equal + result.both_bad) + "."
    );
  const name = (round) => (round ? "round " + round : "the base model"),
    [older, newer] = result.rounds;
  const times = (n) => n + (n === 1 ? " time" : " times");
  return (
    "You compared the captions of " + name(older) + " with those of " + name(newer) + ": you preferred " + name(newer) +
    " " + times(result.chosen[1]) + ", " + name(older) + " " + times(result.chosen[0]) + ", neither " +
    times(result.equal + result.both_bad) + "."
  );
}

async function showHistory() {
  const said = await ask(API + "history").catch(() => ({ history: [] }));
  $("history-box").hidden = !said.history.length;
  $("history").replaceChildren(
    ...said.history.map((entry) => element("li", SAID[entry.chosen] + ", " + entry.at.slice(0, 16).replace("T", " "))),
  );
}

// -- what is chosen

function setBusy(now) {
  busy = now;
  document.body.setAttribute("aria-busy", String(now));
}

async function once(work) {
  if (busy) return;
  setBusy(true);
  try {
    await work();
  } catch (error) {
    notice(error.message.replace("What you wrote is kept here", "Nothing is lost"));
    if (error.status === 409 || error.status === 410) await next("");
  } finally {
    setBusy(false);
  }
}

async function next(without) {
  const said = await ask(API + "next", { pair_id: without });
  counts(said.counts);
  show(said.pair, said.result, said.counts.of);
}

function choose(chosen) {
  if (!pair) return;
  once(async () => {
    const seconds = Math.min(86400, Math.max(0, (performance.now() - began) / 1000));
    const said = await ask(API + "choices", { pair_id: pair.pair_id, chosen, seconds, save_id: saveId });
    notice("");
    if (said.texts) {
      location.assign("/");
      return;
    }
    await next("");
    $("saved").textContent = "Kept: " + SAID[chosen] + ". U undoes";
  });
}

function undo() {
  once(async () => {
    const said = await ask(API + "undo", {});
    counts(said.counts);
    if (said.pair) show(said.pair);
    else notice("There is nothing to take back.");
    $("saved").textContent = "";
  });
}

function renew() {
  if (!pair) return;
  ask(API + "lease", { pair_id: pair.pair_id }).then(
    (said) => {
      if (!said.yours) notice("Another person has this pair now, since it was open for long.");
    },
    () => {},
  );
}

// -- the video

function toggle() {
  if (!pair) return;
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

function mute() {
  video.muted = !video.muted;
  $("mute").setAttribute("aria-pressed", String(video.muted));
  $("mute").firstElementChild.textContent = video.muted ? "Sound off" : "Sound on";
}

function problem(words) {
  $("video-problem").hidden = !words;
  $("video-problem-words").textContent = words;
}

// A copy that the browser plays may have to be made first.
async function showVideo(asked) {
  video.removeAttribute("src");
  video.load();
  problem("");
  try {
    if (SOUNDS) problem("This clip is being made ready with either sound.");
    const ready = SOUNDS ? API + "video/" + asked.pair_id : "/api/video/" + encodeURIComponent(asked.clip_id);
    while (!(await ask(ready)).ready) {
      if (pair !== asked) return;
      problem("A copy of this video that your browser plays is being made.");
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
  } catch (error) {
    if (pair === asked) problem("This video can't be shown: " + error.message + ". Skip it.");
    return;
  }
  if (pair !== asked) return;
  problem("");
  video.src = SOUNDS ? asked.films[heard] : asked.media;
  video.currentTime = asked.start_s;
  if (remembered("autoplay", !STILL)) video.play().catch(() => {});
}

// -- which of two sounds is heard

let heard = "left";
function mark(side) {
  heard = side;
  for (const button of document.querySelectorAll("[data-hear]"))
    button.setAttribute("aria-pressed", String(button.dataset.hear === side));
}

// The other sound goes on where this one was.
function hear(side) {
  if (!pair) return;
  if (side !== heard) {
    const at = video.currentTime;
    mark(side);
    video.src = pair.films[side];
    video.currentTime = at;
  }
  video.play().catch(() => {});
}
for (const button of document.querySelectorAll("[data-hear]"))
  button.addEventListener("click", () => hear(button.dataset.hear));

video.addEventListener("timeupdate", () => {
  if (!pair) return;
  if (video.currentTime >= pair.end_s) video.currentTime = pair.start_s;
  const at = Math.max(0, video.currentTime - pair.start_s);
  $("clock").textContent = at.toFixed(1) + " / " + (pair.end_s - pair.start_s).toFixed(1) + " s";
});
video.addEventListener("ended", () => {
  if (!pair) return;
  video.currentTime = pair.start_s;
  video.play().catch(() => {});
});
for (const [name, words] of [["play", "Pause"], ["pause", "Play"]])
  video.addEventListener(name, () => ($("play").firstElementChild.textContent = words));
video.addEventListener("click", toggle);
$("video-retry").addEventListener("click", () => pair && showVideo(pair));

// -- keys and buttons

const KEYS = { 1: "left", 2: "right", 3: "equal", 4: "both_bad", s: "skip" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  // A button that has the focus takes the space bar itself.
  if (key === " " && event.target.tagName === "BUTTON") return;
  if (SOUNDS && (key === "arrowleft" || key === "arrowright")) hear(key.slice(5));
  else if (key in KEYS) choose(KEYS[key]);
  else if (key === "u") undo();
  else if (key === "m") mute();
  else if (key === " ") toggle();
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("[data-choice]"))
  button.addEventListener("click", () => choose(button.dataset.choice));
$("play").addEventListener("click", toggle);
$("mute").addEventListener("click", mute);
$("undo").addEventListener("click", undo);
$("done-undo").addEventListener("click", undo);

once(() => next(""));
