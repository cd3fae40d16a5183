"""Tests of the suite's own parts: the implementation, the oracles, the gates' machinery."""
