"""Optimizers, clipping and the schedules of their rates."""
