"""Interactive reports of a sweep and leaderboards, each as a single HTML file."""
