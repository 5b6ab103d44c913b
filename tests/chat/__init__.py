"""The chat: what it does on every database; what only one does is in `tests/servers/` and `tests/browser/`."""
