"""Throw-away hosts with a real systemd on one machine, for the tests of installs."""
