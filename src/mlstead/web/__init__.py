"""The web pages and their JSON: one file per page; calls only Platform."""
