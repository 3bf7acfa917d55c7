"""Studies of victims beyond records: stealth of triggers, drift of words, the landscape of the loss."""
