// A form that was sent is not sent again by a second click. The buttons come back with the page ("back", or a download).
"use strict";
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  // Later, because a disabled button would not be sent along, and the server asks which one was pressed.
  setTimeout(() => {
    for (const button of event.target.querySelectorAll("[type=submit]")) button.disabled = true;
  });
});
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const button of document.querySelectorAll("form [type=submit]")) button.disabled = false;
});
