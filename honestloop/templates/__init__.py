"""What `honestloop init` copies."""
