// include websocket-integration.js

socket.on("connect", () => window.report({ kind: "state", state: { connected: true } }));
socket.on("connect_error", (error) => window.report({ kind: "state", state: { connected: false, reason: error.message } }));
window.addNotification = (...args) => window.report({ kind: "call", name: "addNotification", args });
window.toast = { success: (...args) => window.report({ kind: "call", name: "toast.success", args }) };
