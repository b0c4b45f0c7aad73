"""The verb ``model``: keep, list, fetch and name models."""

from mlstead.cli._versions import add_verb, verbs

app = verbs("model")
add_verb(app, "model")
