"""core/, station by station. Nothing here needs a database, a server or the network."""
