"""The definition of done: train for real, recompute every number, refuse what cannot be verified."""

from honestloop.search_path import installed_first

installed_first()  # nothing that a subject may write is imported by what judges it
