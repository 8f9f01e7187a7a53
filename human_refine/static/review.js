"use strict";
// One clip at a time: watch, put the text right, go on. Texts are only ever set as text, never as markup.

const $ = (id) => document.getElementById(id);
const csrf = document.querySelector("meta[name=csrf]").content;
const video = $("video"), text = $("text"), wave = $("wave");
const SPEEDS = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2];
const BEING_MADE = "A copy of this video that your browser plays is being made.";
const RENEW_MS = 60000, LOOK_MS = 10000;

let item = null, blind = false, cues = [], peaks = [], began = 0, saving = false, loop = true, saveId = "";

// -- talking to the server ------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, body) { super(typeof body.detail === "string" ? body.detail : "the server does not take this"); this.status = status; this.body = body; }
}

async function ask(path, body, form) {
  let answer;
  const headers = { "X-CSRF-Token": csrf };
  if (!form && body !== undefined) headers["Content-Type"] = "application/json";
  try {
    answer = await fetch(path, { method: body === undefined && !form ? "GET" : "POST", headers, body: form || (body === undefined ? undefined : JSON.stringify(body)) });
  } catch (error) {
    throw new Refused(0, { detail: "The server can't be reached. What you wrote is kept here; try again." });
  }
  let said = {};
  try { said = await answer.json(); } catch (error) { /* an answer without JSON says nothing more than its status */ }
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

function notice(words) { $("notice").textContent = words; }

// -- drafts: what was typed outlives a reload and a crash ---------------------------------------------------------------------

const draftKey = (id) => "flywheel-draft:" + id;
function keepDraft() {
  if (!item) return;
  const untouched = dense() || blind ? !changed() : text.value === item.text;
  try {
    if (untouched) localStorage.removeItem(draftKey(item.annotation_id));
    else localStorage.setItem(draftKey(item.annotation_id), dense() ? JSON.stringify(cues) : text.value);
    $("draft").textContent = untouched ? "" : "draft kept";
  } catch (error) { $("draft").textContent = "draft can't be kept by this browser"; }
}
function draftOf(id) { try { return localStorage.getItem(draftKey(id)); } catch (error) { return null; } }
function dropDraft(id) { try { localStorage.removeItem(draftKey(id)); } catch (error) { /* then there was none */ } }

// -- the difference in words -------------------------------------------------------------------------------------------------

function words(s) { return s.split(/(\s+)/).filter((w) => w !== ""); }
function diff(before, after) {
  const a = words(before), b = words(after);
  if (a.length * b.length > 4e6) return [["gone", before], ["added", after]];
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const out = [];
  const put = (kind, word) => { if (out.length && out[out.length - 1][0] === kind) out[out.length - 1][1] += word; else out.push([kind, word]); };
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { put("same", a[i]); i++; j++; }
    else if (j < b.length && (i === a.length || common[i][j + 1] > common[i + 1][j])) { put("added", b[j]); j++; }
    else { put("gone", a[i]); i++; }
  }
  // A blank between two changed words belongs to the change: "There is" to "One sees" reads better than word by word.
  const runs = [];
  let gone = "", added = "";
  const flush = () => { if (gone) runs.push(["gone", gone]); if (added) runs.push(["added", added]); gone = added = ""; };
  out.forEach(([kind, part], index) => {
    if (kind === "gone") gone += part;
    else if (kind === "added") added += part;
    else if (!part.trim() && (gone || added) && index + 1 < out.length) { gone += part; added += part; }
    else { flush(); runs.push(["same", part]); }
  });
  flush();
  return runs;
}
function showDiff(place, before, after) {
  place.replaceChildren(...diff(before, after).map(([kind, part]) => {
    if (kind === "same") return document.createTextNode(part);
    const mark = document.createElement(kind === "added" ? "ins" : "del");
    mark.textContent = part;
    return mark;
  }));
}

// -- showing a clip ------------------------------------------------------------------------------------------------------------

function tidy(s) { return s.split(/\s+/).filter(Boolean).join(" "); }
function dense() { return item !== null && item.kind === "dense_caption"; }
function wordsNow() { return dense() ? cues.map((cue) => cue.text).join(" ") : text.value; }
function changed() {
  if (!item) return false;
  if (blind) return tidy(text.value) !== "";
  if (!dense()) return tidy(text.value) !== tidy(item.text);
  const plain = (list) => JSON.stringify(list.map((cue) => [cue.start_s, cue.end_s, tidy(cue.text)]));
  return plain(cues) !== plain(item.model_cues);
}

function refreshText() {
  if (!item) return;
  if (blind) $("diff").replaceChildren(); else showDiff($("diff"), item.text, wordsNow());
  $("diff-label").textContent = blind ? "" : changed() ? "Changed" : "Nothing changed";
  const length = wordsNow().length;
  $("length").textContent = length + " of " + item.max_chars + " characters";
  $("save").firstChild.textContent = changed() ? "Save edit " : "Accept ";
  $("save").disabled = length > item.max_chars;
  if (length > item.max_chars) notice("The text is too long: at most " + item.max_chars + " characters. Nothing is lost; shorten it to save.");
  else if ($("notice").textContent.startsWith("The text is too long")) notice("");
  keepDraft();
}

function show(next) {
  item = next;
  saveId = newId();
  if ($("gold")) $("gold").checked = false;
  $("work").hidden = !item;
  if (!item) { video.removeAttribute("src"); video.load(); notice("Nothing is left to be looked at. Thank you."); return; }
  began = performance.now();
  blind = item.blind;
  const draft = draftOf(item.annotation_id);
  $("text").hidden = $("text-label").hidden = dense();
  $("cue-editor").hidden = !dense();
  if (dense()) {
    try { cues = draft !== null ? JSON.parse(draft) : structuredClone(item.written); } catch (error) { cues = structuredClone(item.written); }
    showCues();
  } else {
    cues = [];
    text.value = draft !== null ? draft : blind ? "" : item.mine || item.text;
  }
  $("transcript").textContent = item.cues.length ? "" : item.transcript;
  $("sounds").textContent = item.sounds ? "Sounds: " + item.sounds : "";
  $("cues").replaceChildren(...item.cues.map((cue) => {
    const line = document.createElement("li");
    line.textContent = cue.start_s.toFixed(1) + "–" + cue.end_s.toFixed(1) + " s: " + cue.text;
    return line;
  }));
  $("came-with").hidden = !(item.transcript || item.sounds || item.cues.length);
  $("earlier").replaceChildren(...item.earlier.map((entry) => {
    const line = document.createElement("li");
    line.textContent = (entry.round === 0 ? "came with the video" : "round " + entry.round) + ": " + entry.text;
    return line;
  }));
  showModel();
  showVideo(item);
  peaks = [];
  draw();
  const asked = item.clip_id;
  ask("/api/waveform/" + encodeURIComponent(item.clip_id)).then((said) => { if (item && item.clip_id === asked) { peaks = said.peaks; draw(); } }, () => {});
  refreshText();
  if (draft !== null) $("draft").textContent = "draft restored";
  if (document.activeElement === document.body || document.activeElement === text) $("save").focus({ preventScroll: true });
}

// A copy that the browser plays may have to be made first; everything else can be done meanwhile.
async function showVideo(asked) {
  video.removeAttribute("src"); video.load();
  try {
    while (!(await ask("/api/video/" + encodeURIComponent(asked.clip_id))).ready) {
      if (item !== asked) return;
      notice(BEING_MADE);
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
  } catch (error) { if (item === asked) notice("The video can't be shown: " + error.message + "."); return; }
  if (item !== asked) return;
  if ($("notice").textContent === BEING_MADE) notice("");
  video.src = asked.media;
  video.currentTime = asked.start_s;
}

function counts(said) {
  $("progress").textContent = said.done + " of " + said.of + " settled · today " + said.today;
}

function newId() { return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join(""); }

async function go(path, body) {
  const said = await ask(path, body);
  counts(said.counts);
  if (path === "/api/undo" && !said.item) { notice("There is nothing to take back."); return; }
  show(said.item);
}

// -- timed cues ------------------------------------------------------------------------------------------------------------------

function seconds(value) { return Math.round(value * 1000) / 1000; }
function showCues() {
  $("cue-rows").replaceChildren(...cues.map((cue, index) => {
    const line = document.createElement("li");
    const field = (name, type, value, change) => {
      const input = document.createElement("input");
      input.type = type; input.value = value; input.setAttribute("aria-label", name + " of cue " + (index + 1));
      if (type === "number") { input.step = "0.001"; input.min = "0"; }
      input.addEventListener("input", () => { change(input.value); refreshText(); draw(); });
      line.append(input);
    };
    field("Beginning", "number", cue.start_s, (value) => { cue.start_s = Number(value); });
    field("End", "number", cue.end_s, (value) => { cue.end_s = Number(value); });
    field("Text", "text", cue.text, (value) => { cue.text = value; });
    const remove = document.createElement("button");
    remove.type = "button"; remove.textContent = "Remove"; remove.setAttribute("aria-label", "Remove cue " + (index + 1));
    remove.addEventListener("click", () => { cues.splice(index, 1); showCues(); refreshText(); draw(); });
    line.append(remove);
    line.addEventListener("keydown", (event) => {
      if (!event.altKey || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.preventDefault();
      const step = (event.key === "ArrowLeft" ? -1 : 1) / item.fps, edge = event.shiftKey ? "end_s" : "start_s";
      moveEdge(index, edge, cue[edge] + step);
    });
    return line;
  }));
}
function moveEdge(index, edge, to) {
  const cue = cues[index], length = item.end_s - item.start_s;
  cue[edge] = seconds(edge === "start_s" ? Math.min(cue.end_s - 0.01, Math.max(0, to)) : Math.max(cue.start_s + 0.01, Math.min(length, to)));
  $("cue-rows").children[index].querySelectorAll("input")[edge === "start_s" ? 0 : 1].value = cue[edge];
  video.currentTime = clampTo(item.start_s + cue[edge]);
  refreshText();
  draw();
}
function addCue() {
  if (!dense()) return;
  const at = seconds(Math.max(0, video.currentTime - item.start_s)), length = seconds(item.end_s - item.start_s);
  const next = cues.filter((cue) => cue.start_s > at).sort((a, b) => a.start_s - b.start_s)[0];
  cues.push({ start_s: at, end_s: Math.min(length, next ? next.start_s : length, seconds(at + 1)), text: "" });
  cues.sort((a, b) => a.start_s - b.start_s);
  showCues();
  refreshText();
  draw();
  $("cue-rows").children[cues.findIndex((cue) => cue.start_s === at)].querySelector("input[type=text]").focus();
}
$("add-cue").addEventListener("click", addCue);

let dragged = null;
function timeAt(event) { const box = wave.getBoundingClientRect(); return (event.clientX - box.left) / box.width * (item.end_s - item.start_s); }
wave.addEventListener("pointerdown", (event) => {
  if (!dense()) return;
  const at = timeAt(event), near = (item.end_s - item.start_s) * 8 / wave.clientWidth;
  const edges = cues.flatMap((cue, index) => [[index, "start_s", Math.abs(cue.start_s - at)], [index, "end_s", Math.abs(cue.end_s - at)]]);
  const best = edges.sort((a, b) => a[2] - b[2])[0];
  if (best && best[2] <= near) { dragged = best; wave.setPointerCapture(event.pointerId); event.preventDefault(); }
});
wave.addEventListener("pointermove", (event) => { if (dragged && item) moveEdge(dragged[0], dragged[1], timeAt(event)); });
wave.addEventListener("pointerup", () => { dragged = null; });

// -- saying what one thinks ------------------------------------------------------------------------------------------------------

async function say(verdict, reason, base) {
  if (!item || saving) return;
  saving = true;
  const current = item;
  try {
    await ask("/api/corrections", {
      annotation_id: current.annotation_id, verdict, text: verdict === "edit" && !dense() ? text.value : "", reason: reason || "",
      cues: verdict === "edit" && dense() ? cues : [],
      seconds: Math.min(86400, Math.max(0, (performance.now() - began) / 1000)), base: base === undefined ? current.base : base, save_id: saveId,
      gold: Boolean($("gold") && $("gold").checked && (verdict === "accept" || verdict === "edit")),
    });
    dropDraft(current.annotation_id);
    notice("");
    await go("/api/next", { without: verdict === "skip" || verdict === "cant_tell" ? current.annotation_id : "" });
  } catch (error) {
    if (error.status === 409) conflict(error.body, verdict, reason);
    else notice("Not saved: " + error.message + (error.status === 0 ? "" : ". What you wrote is still here."));
  } finally { saving = false; }
}
function save() {
  if (blind && !changed()) { notice("Write what you see and hear first; then the model's text is shown. V shows it now."); text.focus(); return undefined; }
  return say(changed() ? "edit" : "accept", blind ? "written before the model's text was seen" : "");
}

// Of some clips one writes first: the model's words sway who reads them.
function showModel() {
  $("model").textContent = blind ? "Hidden until you have written yours." : item.text;
  $("reveal").hidden = !blind;
  $("earlier-box").hidden = blind || !item.earlier.length;
}
function reveal() {
  if (!item || !blind) return;
  blind = false;
  if (tidy(text.value) === "") text.value = item.text;
  showModel();
  refreshText();
}
$("reveal").addEventListener("click", reveal);

let pending = null;
function conflict(said, verdict, reason) {
  pending = { verdict, reason, base: said.other ? said.other.id : undefined };
  $("conflict-why").textContent = said.detail + (said.other ? " (" + said.other.refiner + ": " + said.other.verdict + ")" : "") + ". What you wrote is kept.";
  $("conflict-other").hidden = !said.other;
  $("keep-mine").hidden = !said.other;
  if (said.other) {
    const theirs = said.other.verdict === "edit" ? said.other.text : said.other.verdict === "reject" ? "(rejected) " + said.other.reason : item.text;
    $("theirs").textContent = theirs;
    showDiff($("conflict-diff"), theirs, verdict === "edit" ? wordsNow() : item.text);
  }
  $("conflict").showModal();
}
$("keep-mine").addEventListener("click", () => { $("conflict").close(); saveId = newId(); if (item && pending) { item.base = pending.base; say(pending.verdict, pending.reason, pending.base); } });
$("take-theirs").addEventListener("click", () => { $("conflict").close(); if (item) dropDraft(item.annotation_id); go("/api/next", {}).catch((e) => notice(e.message)); });

$("save").addEventListener("click", save);
$("skip").addEventListener("click", () => say("skip"));
$("cant-tell").addEventListener("click", () => say("cant_tell"));
$("undo").addEventListener("click", () => go("/api/undo", {}).catch((e) => notice("Not taken back: " + e.message)));
$("reject").addEventListener("click", () => { $("reason").value = ""; $("reject-dialog").showModal(); });
$("reject-cancel").addEventListener("click", () => $("reject-dialog").close());
function reject(reason) { if (!reason.trim()) { $("reason").focus(); return; } $("reject-dialog").close(); say("reject", reason); }
for (const button of document.querySelectorAll("[data-reason]")) button.addEventListener("click", () => reject(button.dataset.reason));
$("reject-dialog").querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); reject($("reason").value); });
text.addEventListener("input", refreshText);

// -- playing ---------------------------------------------------------------------------------------------------------------------

function clampTo(time) { return Math.min(item.end_s - 0.001, Math.max(item.start_s, time)); }
function nudge(seconds) { if (item) { video.currentTime = clampTo(video.currentTime + seconds); draw(); } }
function toggle() { if (!item) return; if (video.paused) { if (video.currentTime >= item.end_s - 0.05 || video.currentTime < item.start_s) video.currentTime = item.start_s; video.play().catch((e) => notice("The video can't be played: " + e.message)); } else video.pause(); }
function speed(step) {
  const next = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, SPEEDS.indexOf(video.playbackRate) + step))];
  video.playbackRate = video.defaultPlaybackRate = next; $("speed").textContent = next + "×";
}
function setLoop() { loop = !loop; $("loop").setAttribute("aria-pressed", String(loop)); }
function tick() {
  if (item) {
    if (!video.paused && video.currentTime >= item.end_s) { if (loop) video.currentTime = item.start_s; else video.pause(); }
    draw();
  }
  requestAnimationFrame(tick);
}
video.addEventListener("ended", () => { if (item && loop) { video.currentTime = item.start_s; video.play().catch(() => {}); } });
video.addEventListener("error", () => { if (item && video.src) notice("The video can't be shown. You can skip it, or judge by what came with it."); });
video.addEventListener("play", () => { $("play").firstChild.textContent = "Pause "; });
video.addEventListener("pause", () => { $("play").firstChild.textContent = "Play "; });

function draw() {
  if (!item) return;
  const scale = window.devicePixelRatio || 1, width = wave.clientWidth * scale, height = 72 * scale, length = item.end_s - item.start_s;
  if (wave.width !== width || wave.height !== height) { wave.width = width; wave.height = height; }
  const pen = wave.getContext("2d"), style = getComputedStyle(document.documentElement), at = video.currentTime - item.start_s;
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = style.getPropertyValue("--wave");
  const step = width / Math.max(1, peaks.length);
  peaks.forEach((peak, index) => pen.fillRect(index * step, height / 2 - peak * height / 2, Math.max(1, step - 1), Math.max(1, peak * height)));
  pen.fillStyle = style.getPropertyValue("--main");
  (dense() ? cues : item.cues).forEach((cue) => {
    pen.fillRect(cue.start_s / length * width, height - 4 * scale, (cue.end_s - cue.start_s) / length * width, 4 * scale);
    if (dense()) { pen.fillRect(cue.start_s / length * width, 0, scale, height); pen.fillRect(cue.end_s / length * width - scale, 0, scale, height); }
  });
  pen.fillStyle = style.getPropertyValue("--focus");
  pen.fillRect(at / length * width, 0, 2 * scale, height);
  $("clock").textContent = Math.max(0, at).toFixed(2) + " / " + length.toFixed(2) + " s";
  Array.from($("cue-rows").children).forEach((line, index) => line.classList.toggle("now", index < cues.length && at >= cues[index].start_s && at < cues[index].end_s));
  Array.from($("cues").children).forEach((line, index) => line.classList.toggle("now", at >= item.cues[index].start_s && at < item.cues[index].end_s));
}
wave.addEventListener("click", (event) => { if (item && !dragged) { const box = wave.getBoundingClientRect(); video.currentTime = clampTo(item.start_s + (event.clientX - box.left) / box.width * (item.end_s - item.start_s)); } });

$("play").addEventListener("click", toggle);
$("back").addEventListener("click", () => nudge(-1));
$("forth").addEventListener("click", () => nudge(1));
$("frame-back").addEventListener("click", () => nudge(-1 / item.fps));
$("frame-forth").addEventListener("click", () => nudge(1 / item.fps));
$("loop").addEventListener("click", setLoop);
$("slower").addEventListener("click", () => speed(-1));
$("faster").addEventListener("click", () => speed(1));

// -- keys --------------------------------------------------------------------------------------------------------------------------

const KEYS = {
  " ": toggle, a: save, n: addCue, v: reveal,
  e: () => {
    if (dense()) { const first = $("cue-rows").querySelector("input[type=text]"); if (first) first.focus(); return; }
    text.focus(); text.setSelectionRange(text.value.length, text.value.length);
  }, r: () => $("reject").click(),
  s: () => say("skip"), c: () => say("cant_tell"), u: () => $("undo").click(), l: setLoop, g: () => { if ($("gold")) $("gold").click(); }, p: () => { $("earlier-box").open = !$("earlier-box").open; },
  "[": () => speed(-1), "]": () => speed(1), ",": () => nudge(-1 / item.fps), ".": () => nudge(1 / item.fps),
  ArrowLeft: () => nudge(-1), ArrowRight: () => nudge(1), "?": () => $("help").showModal(),
};
document.addEventListener("keydown", (event) => {
  const open = document.querySelector("dialog[open]");
  if (open) {
    if (open.id === "reject-dialog" && document.activeElement !== $("reason") && "123".includes(event.key)) { event.preventDefault(); document.querySelectorAll("[data-reason]")[Number(event.key) - 1].click(); }
    return;
  }
  if (document.activeElement === text || $("cue-rows").contains(document.activeElement) && document.activeElement instanceof HTMLInputElement) {
    if (event.key === "Escape") { $("save").focus(); event.preventDefault(); }
    else if (event.ctrlKey && event.key === "Enter") { event.preventDefault(); save(); }
    else if (event.ctrlKey && event.key === " ") { event.preventDefault(); toggle(); }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && "asrcu".includes(event.key)) return;
  // A button that has the focus is pressed by its own keys.
  if (event.key === " " && document.activeElement instanceof HTMLButtonElement && document.activeElement !== $("save")) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act && (item || event.key === "?" || event.key.toLowerCase() === "u")) { event.preventDefault(); act(); }
});
$("open-help").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());

// -- upload ---------------------------------------------------------------------------------------------------------------------------

async function upload(preview) {
  const file = $("file").files[0];
  if (!file) return;
  const form = new FormData();
  form.append("file", file);
  const report = $("upload-report");
  try {
    const said = await ask("/api/corrections/import?preview=" + preview, undefined, form);
    const lines = [];
    const line = (tag, words) => { const element = document.createElement(tag); element.textContent = words; lines.push(element); return element; };
    line("p", (preview ? "Would be added: " : "Added: ") + said.added + ". Known already: " + said.known + ". Not filled in: " + said.blank + ". Refused: " + said.num_refused + ".");
    for (const problem of said.refused) line("p", "Refused: " + problem).className = "refused";
    for (const change of said.changes) { const p = line("p", change.verdict + ": "); if (change.verdict === "edit") { const part = document.createElement("span"); showDiff(part, change.before, change.after); p.append(part); } else p.append(change.before); }
    report.replaceChildren(...lines);
    $("upload-send").disabled = !preview || said.added === 0;
    if (!preview) counts(await ask("/api/progress"));
  } catch (error) { report.textContent = "Not taken: " + error.message + "."; $("upload-send").disabled = true; }
}
$("open-upload").addEventListener("click", () => { $("upload-report").replaceChildren(); $("file").value = ""; $("upload-send").disabled = true; $("upload").showModal(); });
$("file").addEventListener("change", () => upload(true));
$("upload-send").addEventListener("click", () => upload(false));
$("upload-close").addEventListener("click", () => $("upload").close());

// What was typed stays in this browser's drafts.
$("sign-out").addEventListener("click", () => ask("/api/sign-out", {}).then(() => location.assign("/"), (error) => notice(error.message)));

// -- begin ----------------------------------------------------------------------------------------------------------------------------

setInterval(() => {
  if (!item || document.hidden) return;
  ask("/api/lease", { annotation_id: item.annotation_id }).then((said) => { if (!said.yours) notice("This clip was yours too long ago; another person has it now. You can still copy your text."); }, () => {});
}, RENEW_MS);
// With nothing left the page waits for what a round writes next.
setInterval(() => { if (!item && !document.hidden && !saving && !document.querySelector("dialog[open]")) go("/api/next", {}).catch(() => {}); }, LOOK_MS);
requestAnimationFrame(tick);
go("/api/next", {}).catch((error) => notice(error.message));
