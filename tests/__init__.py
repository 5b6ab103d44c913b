"""The tests: they mirror the package's folders; what they stand on is in `support/`."""
