"""Suites that every engine, store and component must pass; shipped for people who add parts."""
