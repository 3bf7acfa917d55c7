"""What several defenses share and what needs torch: loaded when a defense runs, not when it is described."""
