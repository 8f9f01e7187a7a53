"use strict";
// Clips with search and facets, a page at a time; one of them with all that is on record of it.

const SAID = {
  accept: "Accepted",
  edit: "Edited",
  reject: "Rejected",
  skip: "Skipped",
  cant_tell: "Can't tell",
  withdraw: "Undone",
};
//: Pages that one search asks for by itself, while it finds less than fills one.
const MOST_TRIES = 200;
let cursor = "",
  shown = new Map(),
  search = 0,
  opened = "";

// -- the list

//: Whether what is asked for is looked for in pictures and sounds; without words there is nothing to be like.
function isByContent() {
  return Boolean($("by") && $("by").value === "content" && $("words").value.trim());
}

async function page(from) {
  if (!isByContent()) return ask("/api/clips?" + query(from));
  const values = new URLSearchParams({ text: $("words").value.trim() });
  for (const name of ["split", "round"]) values.set(name, $(name).value);
  return { ...(await ask("/api/search?" + values)), cursor: "", share: 1 };
}

function query(from) {
  const values = new URLSearchParams();
  for (const name of ["words", "split", "round", "people"]) values.set(name, $(name).value.trim());
  if (from) values.set("cursor", from);
  return values;
}

async function look(isNew) {
  const mine = ++search,
    byContent = isByContent();
  if (isNew) {
    cursor = "";
    shown = new Map();
    $("list").replaceChildren();
    $("rejects").hidden = true;
    $("list").hidden = false;
  }
  $("more").hidden = true;
  if (byContent) $("count").textContent = "Searching pictures and sounds …";
  const wanted = shown.size + 25;
  try {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const said = await page(cursor);
      if (mine !== search) return;
      cursor = said.cursor;
      said.clips
        .filter((clip) => !shown.has(clip.clip_id))
        .forEach((clip) => {
          shown.set(clip.clip_id, clip);
          $("list").append(listed(clip));
        });
      $("count").textContent = counted(said.share);
      if (!cursor || shown.size >= wanted) break;
    }
    $("more").hidden = !cursor;
  } catch (error) {
    // Nothing is searched any more.
    if (byContent && mine === search) $("count").textContent = "";
    notice(error.message);
  }
}
function counted(share) {
  const clips = shown.size + (shown.size === 1 ? " clip" : " clips");
  if (isByContent() && shown.size) return "The " + clips + " most like it, best first.";
  return cursor
    ? clips + " so far, in " + Math.max(1, Math.floor(100 * share)) + " % of the records."
    : shown.size
      ? clips + "."
      : "No clip matches.";
}

function listed(clip) {
  const line = document.createElement("li"),
    button = element("button", "", { type: "button", class: "plain", "data-clip": clip.clip_id });
  button.append(
    element("b", clip.name),
    " " + clip.start_s.toFixed(1) + "–" + clip.end_s.toFixed(1) + " s, " + clip.split,
  );
  button.addEventListener("click", () => openClip(clip.clip_id));
  line.append(button);
  if (clip.found_by) line.append(element("p", foundBy(clip.found_by), { class: "aside" }));
  if (clip.caption) line.append(element("p", clip.caption.text, { class: "text", dir: "auto" }));
  if (clip.word) {
    const word = element(
      "p",
      SAID[clip.word.verdict] + " by " + clip.word.refiner + (clip.word.reason ? " (" + clip.word.reason + ")" : ""),
      { class: "aside" },
    );
    line.append(word);
    if (clip.word.verdict === "edit" && clip.caption) {
      const change = element("p", "", { class: "text", dir: "auto" });
      showDiff(change, clip.caption.text, clip.word.text);
      line.append(change);
    }
  }
  return line;
}

function foundBy(values) {
  const names = { video: "picture", sound: "sound", text: "words" },
    parts = Object.entries(values).map(([name, value]) => names[name] + " " + (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1));
  return "Found by " + parts.join(", ");
}

// -- what failed

async function showRejects() {
  search++;
  $("list").hidden = true;
  $("more").hidden = true;
  $("rejects").hidden = false;
  try {
    const said = await ask("/api/rejects");
    $("count").textContent = said.num_rows
      ? said.num_rows + " open; the newest " + said.rows.length + " below."
      : "Nothing failed.";
    const reasons = said.reasons.map((row) => element("li", row.rows + " × " + row.stage + ": " + row.reason));
    const rows = said.rows.map((row) => {
      const line = element("li", row.file + ", " + row.stage + ": " + row.reason);
      if (row.clip_id) {
        const button = element("button", "Open", { type: "button" });
        button.addEventListener("click", () => openClip(row.clip_id));
        line.append(" ", button);
      }
      return line;
    });
    const list = (title, lines) => {
      const made = element("ul");
      made.append(...lines);
      return [element("h2", title), made];
    };
    $("rejects").replaceChildren(...(said.num_rows ? [...list("By reason", reasons), ...list("Newest", rows)] : []));
  } catch (error) {
    notice(error.message);
  }
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  look(true);
});
if ($("by"))
  $("by").addEventListener("change", () => {
    // What people said is on record of texts: it does not narrow a search in pictures.
    $("people").disabled = $("by").value === "content";
    if ($("people").disabled) $("people").value = "";
  });
for (const name of ["split", "round", "people", "by"])
  if ($(name)) $(name).addEventListener("change", () => look(true));
$("more").addEventListener("click", () => look(false));
$("show-rejects").addEventListener("click", showRejects);
const asked = new URLSearchParams(location.search);
if (asked.get("words")) $("words").value = asked.get("words");
if (asked.get("clip")) openClip(asked.get("clip"));
look(true);
