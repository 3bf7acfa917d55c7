"""The cells of a suite as rows, from a store or from records alone, and as a DataFrame."""
