"""Where text comes from: local files, the Hub, and the generated tasks that ship with the project."""
