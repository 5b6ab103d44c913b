"""A feed: what happens to orders, for staff all of it, for a customer what is theirs."""
