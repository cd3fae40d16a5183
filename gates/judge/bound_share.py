"""How far a recovered quantity is from what it must be, as a share of its derived bound."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """An error as a share of its derived bound; above 1 it is refused, and said to be `problem`."""

    ratio: float
    problem: str = ""
    got: str = ""
    expected: str = ""
    like: str = ""
    """What it behaves like, in words; "" if it is right, or like nothing we know."""

    @property
    def message(self) -> str:
        """The problem and its likeness."""
        return self.problem + (f" (behaves like: {self.like})" if self.like else "")
