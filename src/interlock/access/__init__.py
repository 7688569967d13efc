"""Access: who is asking, for whom, and what they may do."""
