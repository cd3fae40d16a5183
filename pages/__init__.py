"""Pages that people open: a run, a verdict, the properties of an adapter, each one HTML file that asks for nothing.

Whoever has the facts (the gates, the loop that comes with them, the command) reads them and hands them over as JSON has
them; nothing here reads a file, and nothing here imports the suite.
"""
