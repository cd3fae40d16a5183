"""Recompute what a run claims, compare, and find what is wrong."""
