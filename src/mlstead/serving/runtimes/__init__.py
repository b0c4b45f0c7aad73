"""The runtimes a model can have, one file each; found by their name."""
