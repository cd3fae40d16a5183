"""A clone is graded by the plugin in its own honestloop/: `pytest properties/`, `pytest gates/`, no `-p` needed."""

pytest_plugins = ["honestloop.plugin"]
