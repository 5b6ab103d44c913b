"""One topic over SSE, WebSocket and polling, side by side."""
