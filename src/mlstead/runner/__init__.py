"""What runs beside the user's program; standard library only, Python 3.9 and later."""
