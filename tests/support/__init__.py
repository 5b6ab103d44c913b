"""What the tests stand on: independent readers, checkers and servers. Nothing here imports django_live."""
