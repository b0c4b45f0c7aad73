"""The one door for the command line, the web pages and the Python SDK."""
