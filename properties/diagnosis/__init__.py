"""What a failure looks like: an undeclared convention, else a known mistake, else a number, else the place.

Each answer must hold for the failing example, for every example that passed, for others that failed, and, of a loop,
for the short runs of `probes.py`: one that these contradict is not given. Where several known mistakes are left, all of
them are named.
"""

from properties.diagnosis.diagnose import diagnose
from properties.diagnosis.statement import NAMED, Diagnosis

__all__ = ["NAMED", "Diagnosis", "diagnose"]
