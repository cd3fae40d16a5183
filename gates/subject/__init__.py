"""A subject as a process: start, stop, kill it, and read what it left."""
