"""Tables and how they are written: Markdown, CSV, LaTeX, HTML, terminal."""
