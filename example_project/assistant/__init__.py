"""Answers that appear word by word: by a toy that runs here, or by a language model of your own."""
