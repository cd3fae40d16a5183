"""What steers a run: its length and its events, the best evaluation, when to stop, averages, recovery."""
