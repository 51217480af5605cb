// Both React hooks of the seed on one page. What they leave open is reported to the test.
import { createElement, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { useNotifications } from "../seed/use-notifications.js";
import { useRealTimeUpdates } from "../seed/use-real-time-updates.js";

window.updateEntity = (...args) => window.report({ kind: "call", name: "updateEntity", args });

function Page() {
  const { notifications, tickets, comments, handleWebhook } = useNotifications();
  const { socket, isConnected } = useRealTimeUpdates();

  // The application's own webhook receiver passes what it got on to the user's sockets.
  useEffect(() => {
    if (!socket) return undefined;
    socket.on("webhook.received", handleWebhook);
    return () => socket.off("webhook.received", handleWebhook);
  });

  useEffect(() => {
    window.report({ kind: "state", state: { isConnected, notifications, tickets, comments } });
  }, [isConnected, notifications, tickets, comments]);

  return createElement("output", null, String(notifications.length));
}

createRoot(document.getElementById("root")).render(createElement(Page));
