"use strict";
// On touch screens, for who wants it: a swipe over the clip to the right accepts or saves, to the left rejects.

const clipBox = document.querySelector(".screen"),
  //: Pixels at the screen's edges, where a swipe is the browser's own.
  EDGE = 24,
  //: Share of the clip's width that a finger goes, and how steep its way may be.
  FAR = 0.3,
  STEEP = 0.5;
let touch = null;

function swiped(event) {
  const across = event.clientX - touch.x,
    down = event.clientY - touch.y;
  if (Math.abs(across) < FAR * clipBox.clientWidth || Math.abs(down) > STEEP * Math.abs(across)) return null;
  return across > 0 ? $("save") : $("reject");
}
function endSwipe() {
  touch = null;
  $("swipe").hidden = true;
}
clipBox.addEventListener("pointerdown", (event) => {
  if (event.pointerType !== "touch" || !$("swipes").checked || !item) return;
  endSwipe();
  // A second finger means something else.
  if (event.isPrimary && event.clientX > EDGE && event.clientX < innerWidth - EDGE)
    touch = { x: event.clientX, y: event.clientY, id: event.pointerId };
});
clipBox.addEventListener("pointermove", (event) => {
  if (!touch || event.pointerId !== touch.id) return;
  const act = swiped(event);
  $("swipe").hidden = !act;
  $("swipe").textContent = act ? act.firstChild.textContent : "";
});
clipBox.addEventListener("pointerup", (event) => {
  if (!touch || event.pointerId !== touch.id) return;
  const act = swiped(event);
  endSwipe();
  if (act) act.click();
});
clipBox.addEventListener("pointercancel", endSwipe);

function setSwipes() {
  clipBox.classList.toggle("swipes", $("swipes").checked);
}
$("swipes-row").hidden = !matchMedia("(any-pointer: coarse)").matches;
$("swipes").checked = remembered("swipes", false);
$("swipes").addEventListener("change", () => {
  remember("swipes", $("swipes").checked);
  setSwipes();
});
setSwipes();
