"""What a gate raises when it cannot judge."""


class GateError(Exception):
    """The evidence a check needs is missing or unreadable; one line that says which and why."""


class RunError(GateError):
    """A process of a subject hung, died or did not start. `trained`: whether it had been seen to train."""

    def __init__(self, message: str, *, trained: bool = False) -> None:
        super().__init__(message)
        self.trained = trained
