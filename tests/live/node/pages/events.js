// include client-connection.js
// include event-handling.js

socket.on("connect", () => window.report({ kind: "state", state: { connected: true } }));
socket.on("connect_error", (error) => window.report({ kind: "state", state: { connected: false, reason: error.message } }));
for (const name of [
  "handleNotification",
  "updateTicketInUI",
  "updateCommentInUI",
  "updateUserInUI",
  "updateKBArticleInUI",
  "updateAttachmentInUI",
]) {
  window[name] = (...args) => window.report({ kind: "call", name, args });
}
