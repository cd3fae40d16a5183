"""The definition of done, the findings, and the verdict they add up to."""
