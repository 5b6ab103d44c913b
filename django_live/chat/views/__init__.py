"""The pages of the chat, the forms on them, and its files."""
