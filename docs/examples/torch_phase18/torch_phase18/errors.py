"""What ends a command in one line on stderr."""


class UsageError(Exception):
    """Bad input: status 2."""


class NonFiniteError(Exception):
    """A loss, a gradient or a perplexity that is not finite: status 1."""
