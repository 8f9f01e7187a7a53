"use strict";
// One clip at a time: watch, put the text right, go on. Texts are only ever set as text, never as markup.

const text = $("text");
const RENEW_MS = 60000, LOOK_MS = 10000, SAVED_MS = 3000;

let item = null, blind = false, began = 0, saving = false, saveId = "";
//: Texts that were skipped and are still to be shown again.
let again = 0;

// -- drafts: what was typed outlives a reload and a crash ----------------------------------------------------------

const draftKey = (id) => "flywheel-draft:" + id;
function keepDraft() {
  if (!item) return;
  const untouched = dense() || blind ? !changed() : text.value === item.text;
  try {
    if (untouched) localStorage.removeItem(draftKey(item.annotation_id));
    else localStorage.setItem(draftKey(item.annotation_id), dense() ? JSON.stringify(cues) : text.value);
    $("draft").textContent = untouched ? "" : "draft saved in this browser";
  } catch (error) { $("draft").textContent = "draft can't be kept by this browser"; }
}
function draftOf(id) { try { return localStorage.getItem(draftKey(id)); } catch (error) { return null; } }
function dropDraft(id) { try { localStorage.removeItem(draftKey(id)); } catch (error) { /* then there was none */ } }

// -- showing a clip ------------------------------------------------------------------------------------------------

function tidy(s) { return s.split(/\s+/).filter(Boolean).join(" "); }
function wordsNow() { return dense() ? cues.map((cue) => cue.text).join(" ") : text.value; }
function changed() {
  if (!item) return false;
  if (blind) return tidy(text.value) !== "";
  if (!dense()) return tidy(text.value) !== tidy(item.text);
  const plain = (list) => JSON.stringify(list.map((cue) => [cue.start_s, cue.end_s, tidy(cue.text)]));
  return plain(cues) !== plain(item.model_cues);
}

// A box as high as its text; the page's style says how high at most.
function grow(box) { box.style.height = "auto"; box.style.height = box.scrollHeight + 2 + "px"; }

function refreshText() {
  if (!item) return;
  const isChanged = changed(), moved = dense() ? movedTimes() : [], length = wordsNow().length;
  grow(text);
  $("changes").hidden = blind || !isChanged;
  if (blind || !isChanged) $("diff").replaceChildren(); else showDiff($("diff"), item.text, wordsNow());
  $("moved").replaceChildren(...moved.map((line) => element("li", line)));
  $("length").textContent = length + " of " + item.max_chars + " characters";
  $("save").firstChild.textContent = isChanged ? blind ? "Save " : "Save edit " : "Accept ";
  $("save").disabled = length > item.max_chars || blind && !isChanged;
  if (length > item.max_chars) notice("The text is too long: at most " + item.max_chars + " characters. Nothing is lost; shorten it to save.");
  else if ($("notice").textContent.startsWith("The text is too long")) notice("");
  keepDraft();
}

function show(next) {
  item = next;
  saveId = newId();
  if ($("gold")) $("gold").checked = false;
  $("work").hidden = !item;
  $("done").hidden = Boolean(item);
  if (!item) { again = 0; video.removeAttribute("src"); video.load(); return; }
  began = performance.now();
  blind = item.blind;
  const draft = draftOf(item.annotation_id);
  $("text").hidden = $("text-label").hidden = dense();
  $("cue-editor").hidden = !dense();
  wave.classList.toggle("edges", dense());
  if (dense()) {
    try { cues = draft !== null ? JSON.parse(draft) : structuredClone(item.written); } catch (error) { cues = structuredClone(item.written); }
    showCues();
  } else {
    cues = [];
    text.value = draft !== null ? draft : blind ? "" : item.mine || item.text;
  }
  showAround();
  showModel();
  showVideo(item);
  showWave(item);
  refreshText();
  if (draft !== null) $("draft").textContent = "draft restored";
  if (document.activeElement === document.body || document.activeElement === text) $("save").focus({ preventScroll: true });
}

// What stands around the text: the clip's names, what came with the video, what was written before.
function showAround() {
  $("clip-name").textContent = item.name + ", " + item.start_s.toFixed(1) + "–" + item.end_s.toFixed(1) + " s, round " + item.round;
  $("clip-link").href = "/?text=" + encodeURIComponent(item.annotation_id);
  $("flag").setAttribute("aria-pressed", String(item.flag.flagged));
  $("flag").firstChild.textContent = item.flag.flagged ? "Flagged " : "Flag ";
  $("transcript").textContent = item.cues.length ? "" : item.transcript;
  $("sounds").textContent = item.sounds ? "Sounds: " + item.sounds : "";
  $("cues").replaceChildren(...item.cues.map((cue) => {
    const line = document.createElement("li"), play = element("button", "", { type: "button", class: "plain" });
    play.append(element("small", cue.start_s.toFixed(1) + "–" + cue.end_s.toFixed(1) + " s "), element("span", cue.text, { dir: "auto" }));
    play.addEventListener("click", () => playFrom(item.start_s + cue.start_s));
    line.append(play);
    return line;
  }));
  $("came-with").hidden = !(item.transcript || item.sounds || item.cues.length);
  $("earlier").replaceChildren(...item.earlier.map((entry) => {
    const line = element("li", (entry.round === 0 ? "came with the video" : "round " + entry.round) + ": ");
    line.append(element("span", entry.text, { dir: "auto" }));
    return line;
  }));
}

// Of some clips one writes first: the model's words sway who reads them.
function showModel() {
  const model = $("model");
  model.textContent = blind ? "Hidden until you have written yours." : item.text;
  // What scrolls must be reached by keys too.
  if (model.scrollHeight > model.clientHeight + 1) model.tabIndex = 0; else model.removeAttribute("tabindex");
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

function counts(said) {
  $("progress").textContent = said.done + " of " + said.of + " reviewed · today " + said.today;
  $("bar").max = Math.max(1, said.of); $("bar").value = said.done;
  if (said.skipped === undefined) return;
  const plural = (count, one) => count + " " + one + (count === 1 ? "" : "s");
  $("done-words").textContent = said.of ? "You looked at " + plural(said.today, "caption") + " today, " + said.in_all + " in all." : "No captions wait yet: a round has to write them first.";
  $("done-title").textContent = said.of ? "All done. Thank you!" : "Nothing to review yet";
  $("again").hidden = !said.skipped;
  $("again-words").textContent = "You skipped " + plural(said.skipped, "caption") + ": look again";
  $("again").dataset.count = said.skipped;
}

async function go(path, body) {
  const said = await ask(path, body);
  counts(said.counts);
  if (path === "/api/undo" && !said.item) { notice("There is nothing to take back."); return; }
  show(said.item);
}
function goOn(without) { return again > 0 ? go("/api/again", {}) : go("/api/next", { without }); }

let savedTimer = 0;
function showSaved() {
  $("saved").textContent = "Saved. " + keyLabel("undo") + " undoes";
  clearTimeout(savedTimer);
  savedTimer = setTimeout(() => { $("saved").textContent = ""; }, SAVED_MS);
}

// -- saying what one thinks ----------------------------------------------------------------------------------------

async function say(verdict, reason, base) {
  if (!item || saving) return;
  saving = true;
  const current = item, isOff = verdict === "skip" || verdict === "cant_tell";
  try {
    await ask("/api/corrections", {
      annotation_id: current.annotation_id, verdict, text: verdict === "edit" && !dense() ? text.value : "", reason: reason || "",
      cues: verdict === "edit" && dense() ? cues : [],
      seconds: Math.min(86400, Math.max(0, (performance.now() - began) / 1000)), base: base === undefined ? current.base : base, save_id: saveId,
      gold: Boolean($("gold") && $("gold").checked && (verdict === "accept" || verdict === "edit")),
    });
    dropDraft(current.annotation_id);
    notice("");
    showSaved();
    again = Math.max(0, again - 1);
    await goOn(isOff ? current.annotation_id : "");
    if ($("recent-box").open) showRecent();
  } catch (error) {
    if (error.status === 409) conflict(error.body, verdict, reason);
    else notice("Not saved: " + error.message + (error.status === 0 ? "" : ". What you wrote is still here."));
  } finally { saving = false; }
}
function save() {
  if (blind && !changed()) { notice("Write first what you see and hear. " + keyLabel("reveal") + " shows the model's caption instead."); text.focus(); return undefined; }
  if (dense() && changed()) {
    const problems = cueProblems();
    markCues(problems);
    if (problems.length) { notice("Not saved. " + problems.map((one) => one.words).join(" ")); return undefined; }
  }
  return say(changed() ? "edit" : "accept", blind ? "written before the model's text was seen" : "");
}

let pending = null;
function conflict(said, verdict, reason) {
  const other = said.other, isMine = Boolean(other) && other.refiner === me;
  pending = { verdict, reason, base: other ? other.id : undefined };
  $("conflict-title").textContent = isMine ? "You saved this in another tab" : "Already reviewed";
  $("conflict-why").textContent = (isMine ? "There you said: " + other.verdict : said.detail + (other ? " (" + other.refiner + ": " + other.verdict + ")" : "")) + ". What you wrote is kept.";
  $("conflict-other").hidden = !other;
  $("keep-mine").hidden = !other;
  if (other) {
    const theirs = other.verdict === "edit" ? other.text : other.verdict === "reject" ? "(rejected) " + other.reason : item.text;
    $("theirs").textContent = theirs;
    showDiff($("conflict-diff"), theirs, verdict === "edit" ? wordsNow() : item.text);
  }
  $("conflict").showModal();
  $("take-theirs").focus();
}
$("keep-mine").addEventListener("click", () => { $("conflict").close(); saveId = newId(); if (item && pending) { item.base = pending.base; say(pending.verdict, pending.reason, pending.base); } });
$("take-theirs").addEventListener("click", () => { $("conflict").close(); if (item) dropDraft(item.annotation_id); go("/api/next", {}).catch((e) => notice(e.message)); });

function skip() { return say("skip"); }
function cantTell() { return say("cant_tell"); }
function undo() { go("/api/undo", {}).catch((e) => notice("Not taken back: " + e.message)); }
$("save").addEventListener("click", save);
$("skip").addEventListener("click", skip);
$("cant-tell").addEventListener("click", cantTell);
$("undo").addEventListener("click", undo);
$("done-undo").addEventListener("click", undo);
$("again").addEventListener("click", () => { again = Number($("again").dataset.count); go("/api/again", {}).catch((e) => notice(e.message)); });
text.addEventListener("input", refreshText);

// -- reasons ---------------------------------------------------------------------------------------------------------

const MOST_OWN_REASONS = 3;
const given = Array.from(document.querySelectorAll("[data-reason]"), (button) => button.dataset.reason);

function openReject() {
  if (!item) return;
  for (const old of document.querySelectorAll("#reasons .own")) old.remove();
  remembered("reasons", []).forEach((reason) => {
    const line = element("li", "", { class: "own" }), button = element("button", "", { type: "button", "data-reason": reason });
    const key = document.querySelectorAll("[data-reason]").length + 1;
    if (key < 10) button.append(element("kbd", String(key)), " ");
    button.append(element("span", reason, { dir: "auto" }));
    button.addEventListener("click", () => reject(reason));
    line.append(button);
    $("reasons").append(line);
  });
  $("reason").value = ""; $("reason-hint").textContent = "";
  $("reject-dialog").showModal();
}
function reject(reason) {
  if (!reason.trim()) { $("reason-hint").textContent = "Give a reason: press a number, or write your own."; $("reason").focus(); return; }
  if (!given.includes(reason)) remember("reasons", [reason.trim(), ...remembered("reasons", []).filter((r) => r !== reason.trim())].slice(0, MOST_OWN_REASONS));
  $("reject-dialog").close();
  say("reject", reason);
}
$("reject").addEventListener("click", openReject);
$("reject-cancel").addEventListener("click", () => $("reject-dialog").close());
for (const button of document.querySelectorAll("[data-reason]")) button.addEventListener("click", () => reject(button.dataset.reason));
$("reject-dialog").querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); reject($("reason").value); });
