"use strict";
// What a person says of a text: kept, refused, contradicted, taken back.

async function say(verdict, reason, base) {
  if (!item || saving) return;
  saving = true;
  const current = item,
    first = blind && verdict === "edit" ? text.value : "",
    isOff = verdict === "skip" || verdict === "cant_tell";
  try {
    await ask("/api/corrections", {
      annotation_id: current.annotation_id,
      verdict,
      text: verdict === "edit" && !dense() ? text.value : "",
      reason: reason || "",
      cues: verdict === "edit" && dense() ? cues : [],
      seconds: Math.min(86400, Math.max(0, (performance.now() - began) / 1000)),
      base: base === undefined ? current.base : base,
      save_id: saveId,
      gold: Boolean($("gold") && $("gold").checked && (verdict === "accept" || verdict === "edit")),
    });
    // Who passes a text by, or refuses it, may come back to what they had begun to write.
    if (verdict === "edit" || verdict === "accept") dropDraft(current.annotation_id);
    notice("");
    showSaved();
    again = Math.max(0, again - 1);
  } catch (error) {
    if (error.status === 409) conflict(error.body, verdict, reason);
    else notice("Not saved: " + error.message + (error.status === 0 ? "" : ". What you wrote is still here."));
    saving = false;
    return;
  }
  try {
    if (first && (await sideBySide(first, current.text)) === "change") {
      await go("/api/open", { annotation_id: current.annotation_id });
      enterText();
    } else await goOn(isOff ? current.annotation_id : "");
    if ($("recent-box").open) showRecent();
  } catch (error) {
    // It is on record: only what comes next is missing, which saving the same again asks for.
    notice("Saved. The next text did not come: " + error.message);
  } finally {
    saving = false;
  }
}
function save() {
  if (blind && !changed()) {
    notice("Write first what you see and hear. " + keyLabel("reveal") + " shows the model's caption instead.");
    text.focus();
    return undefined;
  }
  if (dense() && changed()) {
    const problems = cueProblems();
    markCues(problems);
    if (problems.length) {
      notice("Not saved. " + problems.map((one) => one.words).join(" "));
      return undefined;
    }
  }
  return say(changed() ? "edit" : "accept", blind ? "written before the model's text was seen" : "");
}

let pending = null;
function conflict(said, verdict, reason) {
  const other = said.other,
    isMine = Boolean(other) && other.refiner === me;
  pending = { verdict, reason, base: other ? other.id : undefined };
  $("conflict-title").textContent = isMine ? "You saved this in another tab" : "Already reviewed";
  $("conflict-why").textContent =
    (isMine
      ? "There you said: " + other.verdict
      : said.detail + (other ? " (" + other.refiner + ": " + other.verdict + ")" : "")) + ". What you wrote is kept.";
  $("conflict-other").hidden = !other;
  $("keep-mine").hidden = !other;
  if (other) {
    const theirs =
      other.verdict === "edit" ? other.text : other.verdict === "reject" ? "(rejected) " + other.reason : item.text;
    $("theirs").textContent = theirs;
    showDiff($("conflict-diff"), theirs, verdict === "edit" ? wordsNow() : item.text);
  }
  $("conflict").showModal();
  $("take-theirs").focus();
}
$("keep-mine").addEventListener("click", () => {
  $("conflict").close();
  saveId = newId();
  if (item && pending) {
    item.base = pending.base;
    say(pending.verdict, pending.reason, pending.base);
  }
});
$("take-theirs").addEventListener("click", () => {
  $("conflict").close();
  if (item) dropDraft(item.annotation_id);
  go("/api/next", wish()).catch((e) => notice(e.message));
});

function skip() {
  return say("skip");
}
function cantTell() {
  return say("cant_tell");
}
function undo() {
  go("/api/undo", {}).catch((e) => notice("Not taken back: " + e.message));
}
$("save").addEventListener("click", save);
$("skip").addEventListener("click", skip);
$("cant-tell").addEventListener("click", cantTell);
$("undo").addEventListener("click", undo);
$("done-undo").addEventListener("click", undo);
$("again").addEventListener("click", () => {
  again = Number($("again").dataset.count);
  go("/api/again", {}).catch((e) => notice(e.message));
});
text.addEventListener("input", refreshText);

// -- reasons

const MOST_OWN_REASONS = 3;
const given = Array.from(document.querySelectorAll("[data-reason]"), (button) => button.dataset.reason);

function openReject() {
  if (!item) return;
  for (const old of document.querySelectorAll("#reasons .own")) old.remove();
  remembered("reasons", []).forEach((reason) => {
    const line = element("li", "", { class: "own" }),
      button = element("button", "", { type: "button", "data-reason": reason });
    const key = document.querySelectorAll("[data-reason]").length + 1;
    if (key < 10) button.append(element("kbd", String(key)), " ");
    button.append(element("span", reason, { dir: "auto" }));
    button.addEventListener("click", () => reject(reason));
    line.append(button);
    $("reasons").append(line);
  });
  $("reason").value = "";
  $("reason-hint").textContent = "";
  $("reject-dialog").showModal();
}
function reject(reason) {
  if (!reason.trim()) {
    $("reason-hint").textContent = "Give a reason: press a number, or write your own.";
    $("reason").focus();
    return;
  }
  if (!given.includes(reason))
    remember(
      "reasons",
      [reason.trim(), ...remembered("reasons", []).filter((r) => r !== reason.trim())].slice(0, MOST_OWN_REASONS),
    );
  $("reject-dialog").close();
  say("reject", reason);
}
$("reject").addEventListener("click", openReject);
$("reject-cancel").addEventListener("click", () => $("reject-dialog").close());
for (const button of document.querySelectorAll("[data-reason]"))
  button.addEventListener("click", () => reject(button.dataset.reason));
$("reject-dialog")
  .querySelector("form")
  .addEventListener("submit", (event) => {
    event.preventDefault();
    reject($("reason").value);
  });
