"""What a gate raises when it cannot judge."""


class GateError(Exception):
    """The evidence a check needs is missing or unreadable; one line that says which and why."""
