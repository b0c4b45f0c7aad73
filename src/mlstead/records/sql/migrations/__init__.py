"""The schema's history: one Alembic revision a file, ``v<revision>_<what>.py``, never edited.

Nothing imports them; Alembic reads the folder when a database is older than the code.
"""
