"""Running a suite: every case asked, scored, written down; resumable after any death."""
