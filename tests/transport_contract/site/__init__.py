"""The site that the transports are compared on: an app, its addresses and its settings."""
