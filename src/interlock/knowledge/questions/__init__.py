"""Questions with the passages that answer them: made, checked, decided on by people, used to tune and to gate."""
