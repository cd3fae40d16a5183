"""Exit statuses of the command `honestloop`."""

OK = 0
"""What was graded holds, or fails as declared."""
FAILED = 1
"""A rule is broken, or the verdict is incomplete."""
USAGE = 2
"""The command was used wrongly."""
NOTHING_GRADED = 3
NO_SUBJECT = 4
OWN_ERROR = 5
"""The grader itself failed."""
