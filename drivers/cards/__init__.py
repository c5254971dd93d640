"""What a card means: codecs and sessions over a Channel."""
