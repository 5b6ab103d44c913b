"""Orders from a file, with a bar that says how far it is."""
