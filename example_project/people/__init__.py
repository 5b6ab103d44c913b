"""People who hear of one another: who is at the counter, and notifications."""
