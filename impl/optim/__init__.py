"""AdamW with clipping, and the schedule of the learning rate."""
