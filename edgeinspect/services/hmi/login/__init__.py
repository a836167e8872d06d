"""Login: sessions, throttling of guesses, known browsers."""
