"use strict";
// The difference of two texts in words, whatever the script.

const MOST_CELLS = 4e6;
const segmenter = Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;
// Where there is no segmenter: scripts without blanks character by character.
const PIECES = /[\u0E00-\u0EFF\u3000-\u9FFF\uAC00-\uD7AF]|\s+|[^\s\u0E00-\u0EFF\u3000-\u9FFF\uAC00-\uD7AF]+/gu;

function words(s) {
  return segmenter ? Array.from(segmenter.segment(s), (part) => part.segment) : s.match(PIECES) || [];
}

function diff(before, after) {
  let a = words(before),
    b = words(after);
  // What is the same at both ends needs no table: while one types, nearly all of it is.
  let head = 0,
    tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const start = a.slice(0, head).join(""),
    end = a.slice(a.length - tail).join("");
  a = a.slice(head, a.length - tail);
  b = b.slice(head, b.length - tail);
  const middle =
    a.length * b.length > MOST_CELLS
      ? [
          ["gone", a.join("")],
          ["added", b.join("")],
        ]
      : inTable(a, b);
  return merged([["same", start], ...middle, ["same", end]].filter(([, part]) => part !== ""));
}

function inTable(a, b) {
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const out = [];
  const put = (kind, word) => {
    if (out.length && out[out.length - 1][0] === kind) out[out.length - 1][1] += word;
    else out.push([kind, word]);
  };
  let i = 0,
    j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      put("same", a[i]);
      i++;
      j++;
    } else if (j < b.length && (i === a.length || common[i][j + 1] > common[i + 1][j])) {
      put("added", b[j]);
      j++;
    } else {
      put("gone", a[i]);
      i++;
    }
  }
  return out;
}

// A blank between two changed words belongs to the change: "There is" to "One sees" reads better than word by word.
function merged(parts) {
  const runs = [];
  let gone = "",
    added = "";
  const flush = () => {
    if (gone) runs.push(["gone", gone]);
    if (added) runs.push(["added", added]);
    gone = added = "";
  };
  parts.forEach(([kind, part], index) => {
    if (kind === "gone") gone += part;
    else if (kind === "added") added += part;
    else if (!part.trim() && (gone || added) && index + 1 < parts.length) {
      gone += part;
      added += part;
    } else {
      flush();
      runs.push(["same", part]);
    }
  });
  flush();
  return runs;
}

function showDiff(place, before, after) {
  place.replaceChildren(
    ...diff(before, after).map(([kind, part]) =>
      kind === "same" ? document.createTextNode(part) : element(kind === "added" ? "ins" : "del", part),
    ),
  );
}
