"use strict";
// Timed cues: rows of begin, end and text, whose edges can be moved by a frame or dragged under the waveform.

let cues = [],
  dragged = null;

function dense() {
  return item !== null && item.kind === "dense_caption";
}
function seconds(value) {
  return Math.round(value * 1000) / 1000;
}

function showCues() {
  $("cue-rows").replaceChildren(...cues.map(cueRow));
  Array.from($("cue-rows").querySelectorAll("textarea")).forEach(grow);
}

function cueRow(cue, index) {
  const line = document.createElement("li"),
    name = " of cue " + (index + 1);
  const field = (label, made, value, change) => {
    made.value = value;
    made.setAttribute("aria-label", label + name);
    made.addEventListener("input", () => {
      change(made.value);
      refreshText();
      draw();
    });
    line.append(made);
    return made;
  };
  const time = { type: "number", step: "0.001", min: "0" };
  const button = (words, label, act) => {
    const made = element("button", words, { type: "button", "aria-label": label + " cue " + (index + 1) });
    made.addEventListener("click", act);
    line.append(made);
  };
  button("▶", "Play", () => {
    setStretch({ from: item.start_s + cue.start_s, to: item.start_s + cue.end_s });
    playFrom(item.start_s + cue.start_s);
  });
  field("Beginning", element("input", "", time), cue.start_s, (value) => {
    cue.start_s = Number(value);
  });
  field("End", element("input", "", time), cue.end_s, (value) => {
    cue.end_s = Number(value);
  });
  const words = field("Text", element("textarea", "", { rows: "1", dir: "auto" }), cue.text, (value) => {
    cue.text = value;
  });
  words.addEventListener("input", () => grow(words));
  button("Remove", "Remove", () => {
    cues.splice(index, 1);
    showCues();
    refreshText();
    draw();
  });
  line.addEventListener("keydown", (event) => {
    if (!event.altKey || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    const step = (event.key === "ArrowLeft" ? -1 : 1) / item.fps,
      edge = event.shiftKey ? "end_s" : "start_s";
    moveEdge(index, edge, cue[edge] + step);
  });
  return line;
}

function moveEdge(index, edge, to) {
  const cue = cues[index],
    length = item.end_s - item.start_s;
  cue[edge] = seconds(
    edge === "start_s"
      ? Math.min(cue.end_s - 0.01, Math.max(0, to))
      : Math.max(cue.start_s + 0.01, Math.min(length, to)),
  );
  $("cue-rows").children[index].querySelectorAll("input")[edge === "start_s" ? 0 : 1].value = cue[edge];
  video.currentTime = clampTo(item.start_s + cue[edge]);
  refreshText();
  draw();
}

function addCue() {
  if (!dense()) return;
  const at = seconds(Math.max(0, video.currentTime - item.start_s)),
    length = seconds(item.end_s - item.start_s);
  const next = cues.filter((cue) => cue.start_s > at).sort((a, b) => a.start_s - b.start_s)[0];
  cues.push({ start_s: at, end_s: Math.min(length, next ? next.start_s : length, seconds(at + 1)), text: "" });
  cues.sort((a, b) => a.start_s - b.start_s);
  showCues();
  refreshText();
  draw();
  $("cue-rows").children[cues.findIndex((cue) => cue.start_s === at)].querySelector("textarea").focus();
}

// What can't be, by the place of its cue; the fields that are meant are marked.
function cueProblems() {
  const length = item.end_s - item.start_s,
    found = [];
  const say = (index, field, words) => found.push({ index, field, words: "Cue " + (index + 1) + ": " + words });
  cues.forEach((cue, index) => {
    const from = cue.start_s.toFixed(3),
      to = cue.end_s.toFixed(3);
    if (cue.start_s < 0) say(index, 0, "begins before the clip.");
    else if (cue.start_s >= cue.end_s) say(index, 0, "its beginning " + from + " is not before its end " + to + ".");
    // As the server has it: players round.
    else if (cue.end_s > length + 0.05)
      say(index, 1, "its end " + to + " is after the clip's, " + length.toFixed(3) + ".");
    else if (!tidy(cue.text)) say(index, 2, "has no text.");
    const next = cues.filter(
      (other) => other !== cue && other.start_s >= cue.start_s && other.start_s < cue.end_s - 1e-6,
    )[0];
    if (next && cues.indexOf(next) > index)
      say(index, 1, "overlaps the next one, which begins at " + next.start_s.toFixed(3) + ".");
  });
  return found;
}
function markCues(problems) {
  Array.from($("cue-rows").querySelectorAll("[aria-invalid]")).forEach((field) =>
    field.removeAttribute("aria-invalid"),
  );
  for (const { index, field } of problems) {
    $("cue-rows").children[index].querySelectorAll("input, textarea")[field].setAttribute("aria-invalid", "true");
  }
}

// Times that were moved, one line for each cue; the words have their own difference.
function movedTimes() {
  return cues.flatMap((cue, index) => {
    const before = item.model_cues.find((other) => tidy(other.text) === tidy(cue.text));
    if (!before || (before.start_s === cue.start_s && before.end_s === cue.end_s)) return [];
    const times = (one) => one.start_s.toFixed(3) + "–" + one.end_s.toFixed(3);
    return ["Cue " + (index + 1) + ": " + times(before) + " → " + times(cue) + " s"];
  });
}

wave.addEventListener("pointerdown", (event) => {
  if (!dense()) return;
  const at = timeAt(event),
    near = ((item.end_s - item.start_s) * 8) / wave.clientWidth;
  const edges = cues.flatMap((cue, index) => [
    [index, "start_s", Math.abs(cue.start_s - at)],
    [index, "end_s", Math.abs(cue.end_s - at)],
  ]);
  const best = edges.sort((a, b) => a[2] - b[2])[0];
  if (best && best[2] <= near) {
    dragged = best;
    wave.setPointerCapture(event.pointerId);
    event.preventDefault();
  }
});
wave.addEventListener("pointermove", (event) => {
  if (dragged && item) moveEdge(dragged[0], dragged[1], timeAt(event));
});
wave.addEventListener("pointerup", () => {
  dragged = null;
});
