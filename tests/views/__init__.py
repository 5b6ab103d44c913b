"""The addresses of features."""
