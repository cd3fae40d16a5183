"""What the command line tells a user who gave it something it cannot use."""


class UsageError(Exception):
    """Bad input or an unusable environment: printed as one line on stderr, exit status 2."""


class NonFiniteError(Exception):
    """A loss, gradient or perplexity is NaN or infinite: printed as one line on stderr, exit status 1."""


class SkippedUpdate(Exception):
    """The gradients of an update overflowed under a loss scale; nothing but the scale has changed."""
