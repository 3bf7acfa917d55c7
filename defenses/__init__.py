"""One defense per file or package; for a new one, run ``python -m tests.test_versions`` to store its fingerprint."""
