"""People who talk: the chat in the shop's clothes; and a roaster that is worked from afar."""
