"""Faults on purpose: processes are killed, stopped and cut off while many clients listen."""
