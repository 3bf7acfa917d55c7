"""What a suite can ask of every model beside its answers to the test sets, one measure per file."""
