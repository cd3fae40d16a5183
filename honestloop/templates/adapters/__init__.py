"""Adapters of training frameworks, to begin from (`honestloop init NAME --from trainer`), and what they share."""
