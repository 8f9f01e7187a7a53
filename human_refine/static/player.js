"use strict";
// The clip's video and sound: playing by mouse and keys, a stretch that is looped, the waveform.

const video = $("video"),
  wave = $("wave");
const SPEEDS = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2];
const BEING_MADE = "A copy of this video that your browser plays is being made.";
// Who asks for little motion is not met by a playing video.
const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;
let peaks = [],
  loop = true,
  stretch = null;

function bounds() {
  return stretch || { from: item.start_s, to: item.end_s };
}
function clampTo(time) {
  return Math.min(item.end_s - 0.001, Math.max(item.start_s, time));
}
function nudge(seconds) {
  if (item) {
    video.currentTime = clampTo(video.currentTime + seconds);
    draw();
  }
}
function nudgeFrame(direction) {
  if (item) nudge(direction / item.fps);
}
function playFrom(time) {
  if (item) {
    video.currentTime = clampTo(time);
    start();
  }
}
function start() {
  video.play().catch((error) => {
    if (error.name !== "AbortError") notice("The video can't be played: " + error.message);
  });
}

function toggle() {
  if (!item) return;
  if (!video.paused) {
    video.pause();
    return;
  }
  const { from, to } = bounds();
  if (video.currentTime >= to - 0.05 || video.currentTime < from) video.currentTime = from;
  start();
}

function speed(step) {
  const next = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, SPEEDS.indexOf(video.playbackRate) + step))];
  video.playbackRate = video.defaultPlaybackRate = next;
  $("speed").textContent = next + "×";
}

function setLoop() {
  loop = !loop;
  $("loop").setAttribute("aria-pressed", String(loop));
  $("loop").firstChild.textContent = loop ? "Loop on " : "Loop off ";
}

// I and O mark a stretch, which is what is looped until it is marked anew or taken away.
function mark(edge) {
  if (!item) return;
  const marked = { ...bounds(), [edge]: video.currentTime };
  if (marked.to - marked.from < 0.05) {
    if (edge === "from") marked.to = item.end_s;
    else marked.from = item.start_s;
  }
  setStretch(marked);
}
function setStretch(marked) {
  stretch = marked;
  $("stretch").hidden = !stretch;
  if (stretch) {
    const at = (time) => (time - item.start_s).toFixed(2);
    $("stretch-words").textContent = "Loops " + at(stretch.from) + "–" + at(stretch.to) + " s";
  }
  if (item) draw();
}

function setSound(change) {
  if ("volume" in change) {
    video.volume = change.volume;
    video.muted = change.volume === 0;
  }
  if ("muted" in change) video.muted = change.muted;
  if (!video.muted && video.volume === 0) video.volume = 0.5;
  $("volume").value = video.muted ? 0 : video.volume;
  $("mute").firstChild.textContent = video.muted ? "Sound off " : "Sound on ";
  $("mute").setAttribute("aria-pressed", String(video.muted));
}
function mute() {
  setSound({ muted: !video.muted });
  remember("sound", { volume: video.volume, muted: video.muted });
}

function fullScreen() {
  // A phone's browser may have its own way alone, for videos.
  if (!video.requestFullscreen) {
    if (video.webkitEnterFullscreen) video.webkitEnterFullscreen();
    return;
  }
  const change = document.fullscreenElement ? document.exitFullscreen() : video.requestFullscreen();
  change.catch(() => notice("This browser can't show the video in full screen."));
}

function tick() {
  if (item) {
    const { from, to } = bounds();
    if (!video.paused && video.currentTime >= to) {
      if (loop) video.currentTime = from;
      else video.pause();
    }
    draw();
  }
  requestAnimationFrame(tick);
}

// -- what is shown

function problem(words) {
  $("video-problem").hidden = !words;
  $("video-problem-words").textContent = words;
}

// A copy that the browser plays may have to be made first; everything else can be done meanwhile.
async function showVideo(asked) {
  video.removeAttribute("src");
  video.load();
  problem("");
  setStretch(null);
  try {
    while (!(await ask("/api/video/" + encodeURIComponent(asked.clip_id))).ready) {
      if (item !== asked) return;
      notice(BEING_MADE);
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
  } catch (error) {
    const why = error.message === "the file is gone" ? "its file is missing on the server" : error.message;
    if (item === asked) problem("This video can't be shown: " + why + ". Your lead can see that.");
    return;
  }
  if (item !== asked) return;
  if ($("notice").textContent === BEING_MADE) notice("");
  video.src = asked.media;
  video.currentTime = asked.start_s;
  // A browser may want a click first; then the clip waits for one.
  if (remembered("autoplay", !STILL) && !document.querySelector("dialog[open]")) video.play().catch(() => {});
}

function showWave(asked) {
  peaks = [];
  draw();
  ask("/api/waveform/" + encodeURIComponent(asked.clip_id)).then(
    (said) => {
      if (item && item.clip_id === asked.clip_id) {
        peaks = said.peaks;
        draw();
      }
    },
    () => {},
  );
}

function draw() {
  if (!item) return;
  const scale = window.devicePixelRatio || 1,
    width = wave.clientWidth * scale,
    height = wave.clientHeight * scale;
  const length = item.end_s - item.start_s,
    x = (time) => (time / length) * width;
  if (wave.width !== width || wave.height !== height) {
    wave.width = width;
    wave.height = height;
  }
  const pen = wave.getContext("2d"),
    style = getComputedStyle(document.documentElement);
  const at = video.currentTime - item.start_s;
  pen.clearRect(0, 0, width, height);
  if (stretch) {
    pen.fillStyle = style.getPropertyValue("--added");
    pen.fillRect(x(stretch.from - item.start_s), 0, x(stretch.to - stretch.from), height);
  }
  pen.fillStyle = style.getPropertyValue("--wave");
  const step = width / Math.max(1, peaks.length);
  peaks.forEach((peak, index) =>
    pen.fillRect(index * step, height / 2 - (peak * height) / 2, Math.max(1, step - 1), Math.max(1, peak * height)),
  );
  pen.fillStyle = style.getPropertyValue("--main");
  (dense() ? cues : item.cues).forEach((cue) => {
    pen.fillRect(x(cue.start_s), height - 4 * scale, x(cue.end_s - cue.start_s), 4 * scale);
    if (dense()) {
      pen.fillRect(x(cue.start_s), 0, scale, height);
      pen.fillRect(x(cue.end_s) - scale, 0, scale, height);
    }
  });
  pen.fillStyle = style.getPropertyValue("--focus");
  pen.fillRect(x(at), 0, 2 * scale, height);
  $("clock").textContent = Math.max(0, at).toFixed(2) + " / " + length.toFixed(2) + " s";
  const light = (line, cue) => line.classList.toggle("now", Boolean(cue) && at >= cue.start_s && at < cue.end_s);
  Array.from($("cue-rows").children).forEach((line, index) => light(line, cues[index]));
  Array.from($("cues").children).forEach((line, index) => light(line, item.cues[index]));
}

// -- the mouse

function timeAt(event) {
  const box = wave.getBoundingClientRect();
  return ((event.clientX - box.left) / box.width) * (item.end_s - item.start_s);
}
wave.addEventListener("click", (event) => {
  if (item && !dragged) video.currentTime = clampTo(item.start_s + timeAt(event));
});
video.addEventListener("click", toggle);
video.addEventListener("dblclick", fullScreen);
video.addEventListener("ended", () => {
  if (item && loop) {
    video.currentTime = bounds().from;
    video.play().catch(() => {});
  }
});
video.addEventListener("error", () => {
  if (!item || !video.getAttribute("src")) return;
  problem(
    video.canPlayType('video/mp4; codecs="avc1.42E01E"')
      ? "Your browser can't show this video. Try again, skip it, or judge by what came with it."
      : "Your browser can't play H.264, which most videos and their copies are in. Open this page in Chrome, Edge, Firefox or Safari.",
  );
});
video.addEventListener("play", () => {
  $("play").firstChild.textContent = "Pause ";
});
video.addEventListener("pause", () => {
  $("play").firstChild.textContent = "Play ";
});
$("video-retry").addEventListener("click", () => {
  if (item) showVideo(item);
});
$("stretch-clear").addEventListener("click", () => setStretch(null));
$("volume").addEventListener("input", () => {
  setSound({ volume: Number($("volume").value) });
  remember("sound", { volume: video.volume, muted: video.muted });
});
setSound({ volume: 1, ...remembered("sound", {}) });
