"""What to run: suites, their YAML files, and the short text form of plugins."""
