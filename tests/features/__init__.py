"""features/, one by one, through the front door."""
