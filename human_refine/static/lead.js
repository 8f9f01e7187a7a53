"use strict";
// The lead's pages of people: invitations, exclusions, and what was changed.

if ($("invite"))
  $("invite").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const said = await ask("/api/people", { name: $("invite-name").value.trim() });
      $("invite-link").replaceChildren(said.name + ": ", element("a", said.link, { href: said.link }));
      notice("Send this link; it is shown this once.");
    } catch (error) {
      notice("Not invited: " + error.message);
    }
  });

if ($("exclude"))
  $("exclude").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = $("exclude");
    try {
      await ask("/api/people/exclude", {
        name: form.dataset.name,
        reason: $("exclude-reason").value,
        undo: Boolean(form.dataset.undo),
      });
      location.reload();
    } catch (error) {
      notice("Not done: " + error.message);
    }
  });

for (const place of document.querySelectorAll("[data-before]"))
  showDiff(place, place.dataset.before, place.textContent);
