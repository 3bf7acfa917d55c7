"""What a backdoored generator writes: one payload a file, each with the exact test of a response."""
