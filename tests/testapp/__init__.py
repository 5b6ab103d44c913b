"""A small app as a user of django_live would write it: orders that belong to customers."""
