"""An order board: a small shop that became live by adding django_live."""
