"use strict";
// Who wrote first sees, once that is saved, one's own words and the model's side by side.

let goesOn = null;
// Answers when the person goes on: "change" where the text is to be laid before that one again.
function sideBySide(mine, model) {
  const parts = diff(mine, model),
    column = (kind, tag) =>
      parts
        .filter(([is]) => is === "same" || is === kind)
        .map(([is, part]) => (is === "same" ? document.createTextNode(part) : element(tag, part)));
  $("blind-mine").replaceChildren(...column("gone", "del"));
  $("blind-model").replaceChildren(...column("added", "ins"));
  $("blind-dialog").returnValue = "";
  $("blind-dialog").showModal();
  $("blind-next").focus();
  return new Promise((resolve) => {
    goesOn = resolve;
  });
}
$("blind-dialog").addEventListener("close", () => goesOn && goesOn($("blind-dialog").returnValue));
