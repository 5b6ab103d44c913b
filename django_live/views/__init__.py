"""Addresses of features: what needs both a feature and a transport, which do not know each other."""
