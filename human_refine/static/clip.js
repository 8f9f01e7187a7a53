"use strict";
// One clip with all that is on record of it: the captions of all rounds, people's words, and whether it is kept.

async function openClip(id) {
  opened = id;
  try {
    const clip = await ask("/api/clips/" + encodeURIComponent(id));
    if (opened === id) show(clip);
  } catch (error) {
    notice("That clip can't be opened: " + error.message + ".");
  }
}

function show(clip) {
  $("detail").hidden = false;
  $("detail-name").textContent = clip.uri.split("/").pop();
  $("detail-facts").textContent =
    "Clip " +
    clip.clip_id +
    ", " +
    clip.start_s.toFixed(2) +
    "–" +
    clip.end_s.toFixed(2) +
    " s, " +
    clip.split +
    ", " +
    clip.uri;
  $("detail-transcript").textContent = [
    clip.transcript && "Transcript: " + clip.transcript,
    clip.sounds && "Sounds: " + clip.sounds,
  ]
    .filter(Boolean)
    .join(" ");
  const last = clip.texts.filter((text) => text.round > 0 && text.purpose === "learn" && text.kind === "caption").pop();
  $("detail-open").hidden = !last;
  if (last) $("detail-open").href = "/?text=" + encodeURIComponent(last.id);
  showTexts(clip);
  $("detail-words").replaceChildren(
    ...(clip.words.length
      ? clip.words.map((word) => {
          const line = element(
            "li",
            SAID[word.verdict] +
              " by " +
              word.refiner +
              ", " +
              word.at.slice(0, 16).replace("T", " ") +
              (word.reason ? " (" + word.reason + ")" : ""),
          );
          if (word.text)
            line.append(
              changedText((clip.texts.find((text) => text.id === word.annotation_id) || { text: "" }).text, word.text),
            );
          return line;
        })
      : [element("li", "Nobody has reviewed it.")]),
  );
  showKept(clip);
  showVideo(clip);
  showNeighbours(clip);
}

async function showNeighbours(clip) {
  const places = { before: $("detail-before"), after: $("detail-after") };
  for (const place of Object.values(places)) {
    place.hidden = true;
    place.onclick = null;
  }
  try {
    const said = await ask("/api/clips/" + encodeURIComponent(clip.clip_id) + "/neighbours");
    if (opened !== clip.clip_id) return;
    for (const [name, place] of Object.entries(places)) {
      place.hidden = !said[name];
      place.onclick = () => openClip(said[name]);
    }
  } catch (error) {
    /* the clip itself is shown */
  }
}

// Each text with what it changed of the one before it of the same kind and purpose.
function showTexts(clip) {
  const before = {};
  $("detail-texts").replaceChildren(
    ...clip.texts.map((text) => {
      const form = text.kind + " " + text.purpose;
      const who =
        text.source !== "model" ? "came with the video" : text.round === 0 ? "base model" : "round " + text.round;
      const line = element(
        "li",
        who +
          (text.kind === "caption" ? "" : ", " + text.kind) +
          (text.purpose === "measure" ? ", to measure" : "") +
          ":",
      );
      line.append(changedText(before[form] === undefined ? text.text : before[form], text.text));
      before[form] = text.text;
      return line;
    }),
  );
}
function changedText(before, after) {
  const place = element("p", "", { class: "text", dir: "auto" });
  showDiff(place, before, after);
  return place;
}

function showKept(clip) {
  const lead = clip.verdicts[clip.verdicts.length - 1],
    lines = [];
  if (clip.decision)
    lines.push((clip.decision.kept ? "Kept" : "Dropped") + " by the last curation: " + clip.decision.reason + ".");
  if (lead)
    lines.push(
      "A lead said " +
        (lead.kept ? "keep" : "drop") +
        ": " +
        lead.reason +
        ", " +
        lead.at.slice(0, 16).replace("T", " ") +
        ".",
    );
  $("detail-kept").textContent = lines.join(" ") || "No curation has decided on it, and no lead.";
  $("keep").dataset.clip = clip.clip_id;
}
$("keep").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = $("keep").dataset.clip,
    kept = event.submitter ? event.submitter.value === "keep" : true;
  try {
    await ask("/api/clips/" + encodeURIComponent(id) + "/verdict", { kept, reason: $("keep-reason").value });
    $("keep-reason").value = "";
    notice("On record: this clip is " + (kept ? "kept" : "dropped") + " from the next curation on.");
    openClip(id);
  } catch (error) {
    notice("Not kept on record: " + error.message + ".");
  }
});

// The clip's span alone is played; a copy that browsers play may have to be made first.
async function showVideo(clip) {
  const video = $("detail-video");
  video.removeAttribute("src");
  video.load();
  $("detail-problem").textContent = "";
  try {
    while (!(await ask("/api/video/" + encodeURIComponent(clip.clip_id))).ready) {
      if (opened !== clip.clip_id) return;
      $("detail-problem").textContent = "A copy of this video that your browser plays is being made.";
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
    if (opened !== clip.clip_id) return;
    $("detail-problem").textContent = "";
    video.src =
      "/media/" + encodeURIComponent(clip.clip_id) + "#t=" + clip.start_s.toFixed(3) + "," + clip.end_s.toFixed(3);
  } catch (error) {
    $("detail-problem").textContent = "This video can't be shown: " + error.message + ".";
  }
}
