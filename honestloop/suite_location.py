"""Where the suite is: in a clone its folders are packages of their own; in the wheel they are in honestloop.suite."""

import reference

INSTALLED = reference.__name__ != "reference"
"""Whether this is the installed wheel."""
DEFAULT_SUBJECT = None if INSTALLED else "impl"
"""What `--impl` means if it is not given: a clone grades the loop that it comes with."""
