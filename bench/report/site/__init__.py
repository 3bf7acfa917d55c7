"""The leaderboard as a static site: files only, no server, no network."""
