"""An app whose table is written to by others: its changes are noted by PostgreSQL's triggers."""
