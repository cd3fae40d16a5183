"""A small solution of our own to CS336, assignment 1, as a student's repository would hold it."""
