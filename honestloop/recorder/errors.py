"""What the recorder raises."""


class RecorderError(Exception):
    """A run directory cannot be written, or not be continued; one line that says which file or value, and why."""
