"""What goes wrong in a lab, said in one line."""


class LabError(Exception):
    """A host or the lab cannot be brought to the wanted state."""
