"""What the tests are run with: Pythons, Djangos, databases, servers, other people's packages.

`tox` runs `tests.matrix.run` in each environment; what came of it goes into
`docs/reference/compatibility.json`, and `tests.matrix.page` makes the page of it.
"""
