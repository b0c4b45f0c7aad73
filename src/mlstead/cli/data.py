"""The verb ``data``: keep, list, fetch and check data sets."""

from mlstead.cli._versions import add_verb, verbs

app = verbs("data")
add_verb(app, "data")
