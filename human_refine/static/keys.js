"use strict";
// All of the page by its keys, which everybody can change; and the beginning.

function enterText() {
  if (dense()) {
    const first = $("cue-rows").querySelector("textarea");
    if (first) first.focus();
    return;
  }
  text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
}
function toggleBox(id) {
  $(id).open = !$(id).open;
}

// Name, its key unless it is changed, what it does in words, and the act.
const ACTIONS = [
  ["play", " ", "play, pause (from the text: Ctrl Space); a click on the video does the same", toggle],
  ["save", "a", "accept, or save what was changed (from the text: Ctrl Enter)", save],
  ["edit", "e", "into the text; Esc out of it", enterText],
  ["reject", "r", "reject, then a number or a reason", () => $("reject").click()],
  ["skip", "s", "skip; it can be looked at again at the end", skip],
  ["cant-tell", "c", "can't tell", cantTell],
  ["undo", "u", "take the last one back", undo],
  ["back", "ArrowLeft", "a second back", () => nudge(-1)],
  ["forth", "ArrowRight", "a second on", () => nudge(1)],
  ["far-back", "Shift+ArrowLeft", "five seconds back", () => nudge(-5)],
  ["far-forth", "Shift+ArrowRight", "five seconds on", () => nudge(5)],
  ["frame-back", ",", "a frame back", () => nudgeFrame(-1)],
  ["frame-forth", ".", "a frame on", () => nudgeFrame(1)],
  ["slower", "[", "slower", () => speed(-1)],
  ["faster", "]", "faster", () => speed(1)],
  ["loop", "l", "loop, or play once", setLoop],
  ["mark-from", "i", "loop from here", () => mark("from")],
  ["mark-to", "o", "loop up to here", () => mark("to")],
  ["mark-off", "x", "loop the whole clip again", () => setStretch(null)],
  ["mute", "m", "sound on, off", mute],
  ["full", "f", "full screen, and back (or a double click)", fullScreen],
  ["add-cue", "n", "a new cue where the clip stands (timed cues)", addCue],
  ["reveal", "v", "show the model's caption, where one is to write first", reveal],
  ["flag", "b", "flag this clip for the lead, with a note", openFlag],
  [
    "gold",
    "g",
    "this clip's text is gold (leads)",
    () => {
      if ($("gold")) $("gold").click();
    },
  ],
  ["earlier", "p", "previous captions", () => toggleBox("earlier-box")],
  ["recent", "d", "your last decisions", () => toggleBox("recent-box")],
  ["guide", "h", "the guidelines", openGuide],
  ["help", "?", "this list", () => $("help").showModal()],
].map(([name, key, words, act]) => ({ name, key, words, act }));
const WITHOUT_ITEM = new Set(["help", "undo", "guide"]),
  NOT_REPEATED = new Set(["save", "skip", "reject", "cant-tell", "undo"]);
const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };
const FIXED = ["Escape", "Enter", "Tab", "Shift", "Control", "Alt", "Meta"];

let own = remembered("keys", {});
function keyOf(name) {
  return own[name] || ACTIONS.find((action) => action.name === name).key;
}
function keyParts(key) {
  return key.length > 1 ? key.split("+").map((part) => NAMES[part] || part) : [NAMES[key] || key.toUpperCase()];
}
function keyLabel(name) {
  return keyParts(keyOf(name)).join(" ");
}
function keyPressed(event) {
  return event.key.length === 1 ? event.key.toLowerCase() : (event.shiftKey ? "Shift+" : "") + event.key;
}

// -- the list, in which keys are changed

let waitsFor = null;
function showKeys() {
  $("key-rows").replaceChildren(
    ...ACTIONS.filter((action) => action.name !== "gold" || $("gold"))
      .filter((action) => action.name !== "guide" || $("guide"))
      .map((action) => {
        const line = document.createElement("tr"),
          key = element("th", "", { scope: "row" }),
          change = element("td");
        keyParts(keyOf(action.name)).forEach((part) => key.append(element("kbd", part), " "));
        const button = element("button", waitsFor === action.name ? "Press a key" : "Change", {
          type: "button",
          "aria-label": "Change the key of: " + action.words,
        });
        button.addEventListener("click", () => {
          waitsFor = action.name;
          showKeys();
        });
        change.append(button);
        line.append(key, element("td", action.words), change);
        return line;
      }),
  );
  for (const button of document.querySelectorAll("[data-action]")) {
    const key = keyOf(button.dataset.action);
    button.setAttribute(
      "aria-keyshortcuts",
      (key === " " ? "Space" : key) + (button.dataset.action === "save" ? " Control+Enter" : ""),
    );
    for (const place of button.querySelectorAll("kbd")) place.textContent = keyParts(key).join(" ");
  }
}
function changeKey(event) {
  event.preventDefault();
  if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
  const name = waitsFor,
    key = keyPressed(event),
    taken = ACTIONS.find((action) => action.name !== name && keyOf(action.name) === key);
  waitsFor = null;
  $("key-notice").textContent = "";
  if (event.key !== "Escape") {
    if (taken || FIXED.includes(event.key) || event.ctrlKey || event.altKey || event.metaKey)
      $("key-notice").textContent = taken ? "That key is taken: " + taken.words + "." : "That key can't be used.";
    else {
      own = { ...own, [name]: key };
      remember("keys", own);
    }
  }
  showKeys();
}
$("keys-reset").addEventListener("click", () => {
  own = {};
  remember("keys", own);
  $("key-notice").textContent = "";
  showKeys();
});
$("autoplay").checked = remembered("autoplay", !STILL);
$("autoplay").addEventListener("change", () => remember("autoplay", $("autoplay").checked));
// A link asks for it in this tab alone, also after a look at pairs; what a person ticks is kept.
if (new URLSearchParams(location.search).get("first") === "anchors") remember("anchors-first", true, "sessionStorage");
$("anchors-first").checked = remembered("anchors-first", remembered("anchors-first", false), "sessionStorage");
$("anchors-first").addEventListener("change", () => {
  for (const place of ["localStorage", "sessionStorage"]) remember("anchors-first", $("anchors-first").checked, place);
});
$("goal").value = goalNow();
$("goal").addEventListener("change", () => {
  remember("goal", Math.max(0, Math.min(9999, Math.round(Number($("goal").value) || 0))));
  $("goal").value = goalNow();
  ask("/api/progress").then(counts, (error) => notice(error.message));
});
$("help").addEventListener("close", () => {
  waitsFor = null;
  showKeys();
});
$("open-help").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());
for (const name of [
  "play",
  "back",
  "forth",
  "frame-back",
  "frame-forth",
  "slower",
  "faster",
  "loop",
  "mute",
  "full",
  "add-cue",
]) {
  $(name).addEventListener("click", ACTIONS.find((action) => action.name === name).act);
}

document.addEventListener("keydown", (event) => {
  if (waitsFor) {
    changeKey(event);
    return;
  }
  const open = document.querySelector("dialog[open]");
  if (open) {
    if (open.id === "reject-dialog" && document.activeElement !== $("reason")) {
      const chosen = /^[1-9]$/.test(event.key)
        ? document.querySelectorAll("[data-reason]")[Number(event.key) - 1]
        : null;
      if (chosen) {
        event.preventDefault();
        chosen.click();
      }
    }
    return;
  }
  if (
    document.activeElement === text ||
    ($("cue-rows").contains(document.activeElement) && document.activeElement.matches("input, textarea"))
  ) {
    if (event.key === "Escape") {
      ($("save").disabled ? $("skip") : $("save")).focus();
      event.preventDefault();
    } else if (event.ctrlKey && event.key === "Enter") {
      event.preventDefault();
      save();
    } else if (event.ctrlKey && event.key === " ") {
      event.preventDefault();
      toggle();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const focused = document.activeElement;
  // A button, link or slider that has the focus is moved by its own keys.
  if (event.key === " " && focused.matches("button, summary, input") && focused !== $("save")) return;
  if (event.key.startsWith("Arrow") && focused.matches("input[type=range]")) return;
  const action = ACTIONS.find((one) => keyOf(one.name) === keyPressed(event));
  if (!action || (event.repeat && NOT_REPEATED.has(action.name))) return;
  if (item || WITHOUT_ITEM.has(action.name)) {
    event.preventDefault();
    action.act();
  }
});

// -- begin

// What is being saved is given back by that; one's own words beside the model's are looked at after it.
setInterval(() => {
  if (!item || saving || document.hidden) return;
  ask("/api/lease", { annotation_id: item.annotation_id }).then(
    (said) => {
      if (!said.yours)
        notice("This clip was yours too long ago; another person has it now. You can still copy your text.");
    },
    () => {},
  );
}, RENEW_MS);
// With nothing left the page waits for what a round writes next.
setInterval(() => {
  if (!item && !document.hidden && !saving && !waiting && !document.querySelector("dialog[open]"))
    go("/api/next", wish()).catch(() => {});
}, LOOK_MS);
showKeys();
requestAnimationFrame(tick);
const linked = new URLSearchParams(location.search).get("text");
(linked ? go("/api/open", { annotation_id: linked }) : Promise.reject())
  .catch((error) => {
    const why = error ? "That clip can't be opened: " + error.message + "." : "";
    return go("/api/next", wish()).then(() => {
      if (why) notice(why);
    });
  })
  .catch((error) => notice(error.message));
