"""Boards: the machine, the shop, a log, other programs' metrics, and a price that is made up."""
