"""The processor time that a diagnosis may take: who waits for a message wants it within seconds."""

import time

SECONDS = 8.0
"""For the known mistakes, and as many again for the numbers and the place."""


class Budget:
    """Seconds of this process's time from now on."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._end = time.process_time() + seconds
        self.ran_out = False

    def left(self) -> bool:
        """Whether there is time left; asked and answered with no once, it has run out."""
        self.ran_out = self.ran_out or time.process_time() > self._end
        return not self.ran_out
