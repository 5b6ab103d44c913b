"""A user model of the project's own: UUID keys, an e-mail address, and no permissions of Django's."""
