"""The documentation is run, not only read."""
