"""One defense a file. A new file here is a new defense; nothing else has to be edited."""
