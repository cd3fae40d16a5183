"""The open half of the published faults as changes of a plain PyTorch loop, for other tools that look for faults."""
