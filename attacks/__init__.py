"""One attack a file. A new file here is a new attack; nothing else has to be edited."""
