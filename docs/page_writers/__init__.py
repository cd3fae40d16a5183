"""What docs/generate.py writes: rules, strength, external faults, and tables within pages that a person writes."""
