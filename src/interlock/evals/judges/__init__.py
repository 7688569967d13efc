"""Models as judges: what they are asked, how far they agree with people, and which of them may gate."""
