"""What tells the emotions and moral sentiments of a post."""
