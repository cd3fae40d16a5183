"""What a user of honestloop imports or types."""
