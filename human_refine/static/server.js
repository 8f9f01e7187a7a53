"use strict";
// Talking to the server, and what every part of the page uses.

const $ = (id) => document.getElementById(id);
const csrf = document.querySelector("meta[name=csrf]").content;
const me = document.querySelector("meta[name=person]").content;

class Refused extends Error {
  constructor(status, body) {
    super(typeof body.detail === "string" ? body.detail : "the server does not take this");
    this.status = status;
    this.body = body;
  }
}

async function ask(path, body, form) {
  let answer;
  const isPost = body !== undefined || form !== undefined,
    headers = { "X-CSRF-Token": csrf };
  if (!form && body !== undefined) headers["Content-Type"] = "application/json";
  const payload = form || (body === undefined ? undefined : JSON.stringify(body));
  try {
    answer = await fetch(path, { method: isPost ? "POST" : "GET", headers, body: payload });
  } catch (error) {
    throw new Refused(0, { detail: "The server can't be reached. What you wrote is kept here; try again." });
  }
  let said = {};
  try {
    said = await answer.json();
  } catch (error) {
    /* an answer without JSON says nothing more than its status */
  }
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

function notice(words) {
  $("notice").textContent = words;
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// An element with text and attributes. Texts are only ever set as text, never as markup.
function element(tag, words, attributes) {
  const made = document.createElement(tag);
  if (words) made.textContent = words;
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  return made;
}

// What this browser remembers; a browser that can't is asked again each time.
function remembered(name, otherwise, place = "localStorage") {
  try {
    const kept = window[place].getItem("flywheel-" + name);
    return kept === null ? otherwise : JSON.parse(kept);
  } catch (error) {
    return otherwise;
  }
}
function remember(name, value, place = "localStorage") {
  try {
    window[place].setItem("flywheel-" + name, JSON.stringify(value));
  } catch (error) {
    /* then it is not kept */
  }
}
