"""Objects across dates: matched, followed, and told from hidden ones."""
