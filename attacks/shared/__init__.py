"""What attacks share and what needs torch: loaded when an attack runs, not when it is described."""
