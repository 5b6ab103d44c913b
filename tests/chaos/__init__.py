"""Many processes, and faults on purpose."""
