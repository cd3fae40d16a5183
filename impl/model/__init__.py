"""MiniGPT: its parameters, rotary positions, dropout, and decoding."""
