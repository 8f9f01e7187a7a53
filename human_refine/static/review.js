"use strict";
// One clip at a time: what is shown of it. Texts are only ever set as text, never as markup.

const text = $("text");
const RENEW_MS = 60000,
  LOOK_MS = 10000,
  SAVED_MS = 3000;

let item = null,
  blind = false,
  began = 0,
  saving = false,
  saveId = "";
//: Texts that were skipped and are still to be shown again.
let again = 0;

// -- drafts: what was typed outlives a reload and a crash

const draftKey = (id) => "flywheel-draft:" + id;
function keepDraft() {
  if (!item) return;
  const untouched = dense() || blind ? !changed() : text.value === item.text;
  try {
    if (untouched) localStorage.removeItem(draftKey(item.annotation_id));
    else localStorage.setItem(draftKey(item.annotation_id), dense() ? JSON.stringify(cues) : text.value);
    $("draft").textContent = untouched ? "" : "draft saved in this browser";
  } catch (error) {
    $("draft").textContent = "draft can't be kept by this browser";
  }
}
function draftOf(id) {
  try {
    return localStorage.getItem(draftKey(id));
  } catch (error) {
    return null;
  }
}
function dropDraft(id) {
  try {
    localStorage.removeItem(draftKey(id));
  } catch (error) {
    /* then there was none */
  }
}

// -- showing a clip

function tidy(s) {
  return s.split(/\s+/).filter(Boolean).join(" ");
}
function wordsNow() {
  return dense() ? cues.map((cue) => cue.text).join(" ") : text.value;
}
function changed() {
  if (!item) return false;
  if (blind) return tidy(text.value) !== "";
  if (!dense()) return tidy(text.value) !== tidy(item.text);
  const plain = (list) => JSON.stringify(list.map((cue) => [cue.start_s, cue.end_s, tidy(cue.text)]));
  return plain(cues) !== plain(item.model_cues);
}

// A box as high as its text; the page's style says how high at most.
function grow(box) {
  box.style.height = "auto";
  box.style.height = box.scrollHeight + 2 + "px";
}

function refreshText() {
  if (!item) return;
  const isChanged = changed(),
    moved = dense() ? movedTimes() : [],
    length = wordsNow().length;
  grow(text);
  $("changes").hidden = blind || !isChanged;
  if (blind || !isChanged) $("diff").replaceChildren();
  else showDiff($("diff"), item.text, wordsNow());
  $("moved").replaceChildren(...moved.map((line) => element("li", line)));
  $("length").textContent = length + " of " + item.max_chars + " characters";
  $("save").firstChild.textContent = isChanged ? (blind ? "Save " : "Save edit ") : "Accept ";
  $("save").disabled = length > item.max_chars || (blind && !isChanged);
  if (length > item.max_chars)
    notice("The text is too long: at most " + item.max_chars + " characters. Nothing is lost; shorten it to save.");
  else if ($("notice").textContent.startsWith("The text is too long")) notice("");
  keepDraft();
}

function show(next) {
  item = next;
  saveId = newId();
  if ($("gold")) $("gold").checked = false;
  $("work").hidden = !item;
  $("done").hidden = Boolean(item);
  if (!item) {
    again = 0;
    video.removeAttribute("src");
    video.load();
    return;
  }
  began = performance.now();
  blind = item.blind;
  const draft = draftOf(item.annotation_id);
  $("text").hidden = $("text-label").hidden = dense();
  $("cue-editor").hidden = !dense();
  wave.classList.toggle("edges", dense());
  if (dense()) {
    try {
      cues = draft !== null ? JSON.parse(draft) : structuredClone(item.written);
    } catch (error) {
      cues = structuredClone(item.written);
    }
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
  if (document.activeElement === document.body || document.activeElement === text)
    $("save").focus({ preventScroll: true });
}

// What stands around the text: the clip's names, what came with the video, what was written before.
function showAround() {
  $("clip-name").textContent =
    item.name + ", " + item.start_s.toFixed(1) + "–" + item.end_s.toFixed(1) + " s, round " + item.round;
  $("clip-link").href = "/?text=" + encodeURIComponent(item.annotation_id);
  $("flag").setAttribute("aria-pressed", String(item.flag.flagged));
  $("flag").firstChild.textContent = item.flag.flagged ? "Flagged " : "Flag ";
  $("transcript").textContent = item.cues.length ? "" : item.transcript;
  $("sounds").textContent = item.sounds ? "Sounds: " + item.sounds : "";
  $("cues").replaceChildren(
    ...item.cues.map((cue) => {
      const line = document.createElement("li"),
        play = element("button", "", { type: "button", class: "plain" });
      play.append(
        element("small", cue.start_s.toFixed(1) + "–" + cue.end_s.toFixed(1) + " s "),
        element("span", cue.text, { dir: "auto" }),
      );
      play.addEventListener("click", () => playFrom(item.start_s + cue.start_s));
      line.append(play);
      return line;
    }),
  );
  $("came-with").hidden = !(item.transcript || item.sounds || item.cues.length);
  $("earlier").replaceChildren(
    ...item.earlier.map((entry) => {
      const line = element("li", (entry.round === 0 ? "came with the video" : "round " + entry.round) + ": ");
      line.append(element("span", entry.text, { dir: "auto" }));
      return line;
    }),
  );
}

// Of some clips one writes first: the model's words sway who reads them.
function showModel() {
  const model = $("model");
  model.textContent = blind ? "Hidden until you have written yours." : item.text;
  // What scrolls must be reached by keys too.
  if (model.scrollHeight > model.clientHeight + 1) model.tabIndex = 0;
  else model.removeAttribute("tabindex");
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

// How many captions a day this person aims at: own number, else the lead's; 0 is none.
function goalNow() {
  return Number(remembered("goal", $("progress").dataset.goal)) || 0;
}
function counts(said) {
  const goal = goalNow();
  $("progress").textContent =
    said.done +
    " of " +
    said.of +
    " reviewed · today " +
    said.today +
    (goal ? " of " + goal + (said.today < goal ? "" : ", goal reached") : "");
  $("bar").max = Math.max(1, said.of);
  $("bar").value = said.done;
  if (said.skipped === undefined) return;
  const plural = (count, one) => count + " " + one + (count === 1 ? "" : "s");
  $("done-words").textContent = said.of
    ? "You looked at " + plural(said.today, "caption") + " today, " + said.in_all + " in all."
    : "No captions wait yet: a round has to write them first.";
  $("done-title").textContent = said.of ? "All done. Thank you!" : "Nothing to review yet";
  $("again").hidden = !said.skipped;
  $("again-words").textContent = "You skipped " + plural(said.skipped, "caption") + ": look again";
  $("again").dataset.count = said.skipped;
}

//: Questions for what to show that were asked, and those without an answer yet.
let asked = 0,
  waiting = 0;
async function go(path, body) {
  const mine = ++asked;
  waiting++;
  const said = await ask(path, body).finally(() => waiting--);
  // What was asked for since is what is wanted.
  if (mine !== asked) return;
  if (said.compare) {
    location.assign("/compare");
    return;
  }
  counts(said.counts);
  if (path === "/api/undo" && !said.item) {
    notice("There is nothing to take back.");
    return;
  }
  show(said.item);
}
// What is asked for next: without one text, and anchors first for who wishes so.
function wish(without = "") {
  return { without, anchors_first: $("anchors-first").checked };
}
function goOn(without) {
  return again > 0 ? go("/api/again", {}) : go("/api/next", wish(without));
}

let savedTimer = 0;
function showSaved() {
  $("saved").textContent = "Saved. " + keyLabel("undo") + " undoes";
  clearTimeout(savedTimer);
  savedTimer = setTimeout(() => {
    $("saved").textContent = "";
  }, SAVED_MS);
}
