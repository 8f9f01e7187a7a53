"use strict";
// Clips with search and facets, a page at a time; one of them with all that is on record of it.

const SAID = { accept: "Accepted", edit: "Edited", reject: "Rejected", skip: "Skipped", cant_tell: "Can't tell", withdraw: "Undone" };
//: Pages that one search asks for by itself, while it finds less than fills one.
const MOST_TRIES = 200;
let cursor = "", shown = new Map(), search = 0, opened = "";

// -- the list ------------------------------------------------------------------------------------------------------

function query(from) {
  const values = new URLSearchParams();
  for (const name of ["words", "split", "round", "people"]) values.set(name, $(name).value.trim());
  if (from) values.set("cursor", from);
  return values;
}

async function look(isNew) {
  const mine = ++search;
  if (isNew) { cursor = ""; shown = new Map(); $("list").replaceChildren(); $("rejects").hidden = true; $("list").hidden = false; }
  $("more").hidden = true;
  const wanted = shown.size + 25;
  try {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const said = await ask("/api/clips?" + query(cursor));
      if (mine !== search) return;
      cursor = said.cursor;
      said.clips.filter((clip) => !shown.has(clip.clip_id)).forEach((clip) => { shown.set(clip.clip_id, clip); $("list").append(listed(clip)); });
      $("count").textContent = counted(said.share);
      if (!cursor || shown.size >= wanted) break;
    }
    $("more").hidden = !cursor;
  } catch (error) { notice(error.message); }
}
function counted(share) {
  const clips = shown.size + (shown.size === 1 ? " clip" : " clips");
  return cursor ? clips + " so far, in " + Math.max(1, Math.floor(100 * share)) + " % of the records." : shown.size ? clips + "." : "No clip matches.";
}

function listed(clip) {
  const line = document.createElement("li"), button = element("button", "", { type: "button", class: "plain", "data-clip": clip.clip_id });
  button.append(element("b", clip.name), " " + clip.start_s.toFixed(1) + "–" + clip.end_s.toFixed(1) + " s, " + clip.split);
  button.addEventListener("click", () => open(clip.clip_id));
  line.append(button);
  if (clip.caption) line.append(element("p", clip.caption.text, { class: "text", dir: "auto" }));
  if (clip.word) {
    const word = element("p", SAID[clip.word.verdict] + " by " + clip.word.refiner + (clip.word.reason ? " (" + clip.word.reason + ")" : ""), { class: "aside" });
    line.append(word);
    if (clip.word.verdict === "edit" && clip.caption) {
      const change = element("p", "", { class: "text", dir: "auto" });
      showDiff(change, clip.caption.text, clip.word.text);
      line.append(change);
    }
  }
  return line;
}

// -- one clip --------------------------------------------------------------------------------------------------------

async function open(id) {
  opened = id;
  try {
    const clip = await ask("/api/clips/" + encodeURIComponent(id));
    if (opened === id) show(clip);
  } catch (error) { notice("That clip can't be opened: " + error.message + "."); }
}

function show(clip) {
  $("detail").hidden = false;
  $("detail-name").textContent = clip.uri.split("/").pop();
  $("detail-facts").textContent = "Clip " + clip.clip_id + ", " + clip.start_s.toFixed(2) + "–" + clip.end_s.toFixed(2) + " s, " + clip.split + ", " + clip.uri;
  $("detail-transcript").textContent = [clip.transcript && "Transcript: " + clip.transcript, clip.sounds && "Sounds: " + clip.sounds].filter(Boolean).join(" ");
  const last = clip.texts.filter((text) => text.round > 0 && text.purpose === "learn" && text.kind === "caption").pop();
  $("detail-open").hidden = !last;
  if (last) $("detail-open").href = "/?text=" + encodeURIComponent(last.id);
  showTexts(clip);
  $("detail-words").replaceChildren(...(clip.words.length ? clip.words.map((word) => {
    const line = element("li", SAID[word.verdict] + " by " + word.refiner + ", " + word.at.slice(0, 16).replace("T", " ") + (word.reason ? " (" + word.reason + ")" : ""));
    if (word.text) line.append(changedText((clip.texts.find((text) => text.id === word.annotation_id) || { text: "" }).text, word.text));
    return line;
  }) : [element("li", "Nobody has reviewed it.")]));
  showKept(clip);
  showVideo(clip);
}

// Each text with what it changed of the one before it of the same kind and purpose.
function showTexts(clip) {
  const before = {};
  $("detail-texts").replaceChildren(...clip.texts.map((text) => {
    const form = text.kind + " " + text.purpose;
    const who = text.source !== "model" ? "came with the video" : text.round === 0 ? "base model" : "round " + text.round;
    const line = element("li", who + (text.kind === "caption" ? "" : ", " + text.kind) + (text.purpose === "measure" ? ", to measure" : "") + ":");
    line.append(changedText(before[form] === undefined ? text.text : before[form], text.text));
    before[form] = text.text;
    return line;
  }));
}
function changedText(before, after) {
  const place = element("p", "", { class: "text", dir: "auto" });
  showDiff(place, before, after);
  return place;
}

function showKept(clip) {
  const lead = clip.verdicts[clip.verdicts.length - 1], lines = [];
  if (clip.decision) lines.push((clip.decision.kept ? "Kept" : "Dropped") + " by the last curation: " + clip.decision.reason + ".");
  if (lead) lines.push("A lead said " + (lead.kept ? "keep" : "drop") + ": " + lead.reason + ", " + lead.at.slice(0, 16).replace("T", " ") + ".");
  $("detail-kept").textContent = lines.join(" ") || "No curation has decided on it, and no lead.";
  $("keep").dataset.clip = clip.clip_id;
}
$("keep").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = $("keep").dataset.clip, kept = event.submitter ? event.submitter.value === "keep" : true;
  try {
    await ask("/api/clips/" + encodeURIComponent(id) + "/verdict", { kept, reason: $("keep-reason").value });
    $("keep-reason").value = "";
    notice("On record: this clip is " + (kept ? "kept" : "dropped") + " from the next curation on.");
    open(id);
  } catch (error) { notice("Not kept on record: " + error.message + "."); }
});

// The clip's span alone is played; a copy that browsers play may have to be made first.
async function showVideo(clip) {
  const video = $("detail-video");
  video.removeAttribute("src"); video.load();
  $("detail-problem").textContent = "";
  try {
    while (!(await ask("/api/video/" + encodeURIComponent(clip.clip_id))).ready) {
      if (opened !== clip.clip_id) return;
      $("detail-problem").textContent = "A copy of this video that your browser plays is being made.";
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
    if (opened !== clip.clip_id) return;
    $("detail-problem").textContent = "";
    video.src = "/media/" + encodeURIComponent(clip.clip_id) + "#t=" + clip.start_s.toFixed(3) + "," + clip.end_s.toFixed(3);
  } catch (error) { $("detail-problem").textContent = "This video can't be shown: " + error.message + "."; }
}

// -- what failed -------------------------------------------------------------------------------------------------------

async function showRejects() {
  search++;
  $("list").hidden = true; $("more").hidden = true; $("rejects").hidden = false;
  try {
    const said = await ask("/api/rejects");
    $("count").textContent = said.num_rows ? said.num_rows + " open; the newest " + said.rows.length + " below." : "Nothing failed.";
    const reasons = said.reasons.map((row) => element("li", row.rows + " × " + row.stage + ": " + row.reason));
    const rows = said.rows.map((row) => {
      const line = element("li", row.file + ", " + row.stage + ": " + row.reason);
      if (row.clip_id) { const button = element("button", "Open", { type: "button" }); button.addEventListener("click", () => open(row.clip_id)); line.append(" ", button); }
      return line;
    });
    const list = (title, lines) => { const made = element("ul"); made.append(...lines); return [element("h2", title), made]; };
    $("rejects").replaceChildren(...(said.num_rows ? [...list("By reason", reasons), ...list("Newest", rows)] : []));
  } catch (error) { notice(error.message); }
}

$("search").addEventListener("submit", (event) => { event.preventDefault(); look(true); });
for (const name of ["split", "round", "people"]) $(name).addEventListener("change", () => look(true));
$("more").addEventListener("click", () => look(false));
$("show-rejects").addEventListener("click", showRejects);
const asked = new URLSearchParams(location.search);
if (asked.get("words")) $("words").value = asked.get("words");
if (asked.get("clip")) open(asked.get("clip"));
look(true);
