"""django_live in a project that has much else: a user model of its own, other people's apps, a prefix."""
