"""Login: sessions, throttling of failed attempts, device cookies."""
