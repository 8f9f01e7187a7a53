"use strict";
// Beside the work: flags for the lead, last decisions, guidelines, files of corrections.

// -- flags

function openFlag() {
  if (!item) return;
  $("flag-note").value = item.flag.note;
  $("flag-off").hidden = !item.flag.flagged;
  $("flag-dialog").showModal();
}
async function flag(flagged) {
  const current = item,
    note = $("flag-note").value;
  $("flag-dialog").close();
  try {
    await ask("/api/flags", { annotation_id: current.annotation_id, flagged, note });
    current.flag = { flagged, note: flagged ? note : "" };
    if (item === current) showAround();
  } catch (error) {
    notice("Not flagged: " + error.message + ".");
  }
}
$("flag").addEventListener("click", openFlag);
$("flag-on").addEventListener("click", () => flag(true));
$("flag-off").addEventListener("click", () => flag(false));
$("flag-cancel").addEventListener("click", () => $("flag-dialog").close());

$("clip-link").addEventListener("click", (event) => {
  if (!navigator.clipboard) return;
  event.preventDefault();
  navigator.clipboard.writeText($("clip-link").href).then(
    () => notice("The link to this clip is copied."),
    () => notice($("clip-link").href),
  );
});

// -- one's own last decisions

const SAID = { accept: "Accepted", edit: "Edited", reject: "Rejected", skip: "Skipped", cant_tell: "Can't tell" };
async function showRecent() {
  try {
    const { recent } = await ask("/api/recent");
    $("recent").replaceChildren(
      ...recent.map((entry) => {
        const line = document.createElement("li"),
          open = element("button", SAID[entry.verdict] + ": ", { type: "button", class: "plain" });
        open.append(element("span", entry.text, { dir: "auto" }));
        open.addEventListener("click", () => openText(entry.annotation_id));
        line.append(open);
        return line;
      }),
    );
    if (!recent.length) $("recent").replaceChildren(element("li", "None yet."));
  } catch (error) {
    notice(error.message);
  }
}
function openText(id) {
  return go("/api/open", { annotation_id: id }).catch((error) => notice("Not opened: " + error.message + "."));
}
$("recent-box").addEventListener("toggle", () => {
  if ($("recent-box").open) showRecent();
});

// -- the lead's guidelines

function openGuide() {
  if ($("guide") && !$("guide").open) $("guide").showModal();
}
if ($("guide")) {
  $("open-guide").addEventListener("click", openGuide);
  $("guide-close").addEventListener("click", () => $("guide").close());
  $("guide").addEventListener("close", () => remember("guide", $("guide").dataset.version));
  if (remembered("guide", "") !== $("guide").dataset.version) openGuide();
}

// -- files

// What a file adds: corrections, choices between two captions, or both.
function taken(said) {
  const count = (n, word) => n + " " + word + (n === 1 ? "" : "s");
  return [
    said.added || !said.choices ? count(said.added, "correction") : "",
    said.choices ? count(said.choices, "choice") : "",
  ].filter(Boolean).join(" and ");
}
async function upload(preview) {
  const file = $("file").files[0];
  if (!file) return;
  const form = new FormData();
  form.append("file", file);
  const report = $("upload-report");
  try {
    const said = await ask("/api/corrections/import?preview=" + preview, undefined, form);
    const lines = [];
    const line = (tag, words) => {
      const made = element(tag, words);
      lines.push(made);
      return made;
    };
    line(
      "p",
      (preview ? "Would be added: " : "Added: ") +
        taken(said) +
        ". Known already: " +
        said.known +
        ". Not filled in: " +
        said.blank +
        ". Refused: " +
        said.num_refused +
        ".",
    );
    for (const refused of said.refused) line("p", "Refused: " + refused).className = "refused";
    for (const change of said.changes) {
      const p = line("p", change.verdict + ": "),
        part = element("span", change.before, { dir: "auto" });
      if (change.verdict === "edit") showDiff(part, change.before, change.after);
      p.append(part);
    }
    report.replaceChildren(...lines);
    $("upload-send").textContent = "Import " + taken(said);
    $("upload-send").disabled = !preview || said.added + said.choices === 0;
    if (!preview) counts(await ask("/api/progress"));
  } catch (error) {
    report.textContent = "Not taken: " + error.message + ".";
    $("upload-send").disabled = true;
  }
}
function openUpload() {
  $("upload-report").replaceChildren();
  $("file").value = "";
  $("upload-send").disabled = true;
  $("upload-send").textContent = "Import";
  $("upload").showModal();
}
$("open-upload").addEventListener("click", openUpload);
$("file").addEventListener("change", () => upload(true));
$("upload-send").addEventListener("click", () => upload(false));
$("upload-close").addEventListener("click", () => $("upload").close());

$("open-menu").addEventListener("click", () =>
  $("open-menu").setAttribute("aria-expanded", String($("menu").classList.toggle("open"))),
);
// What was typed stays in this browser's drafts.
$("sign-out").addEventListener("click", () =>
  ask("/api/sign-out", {}).then(
    () => location.assign("/"),
    (error) => notice(error.message),
  ),
);
