"""How a card is reached: one module per reader."""
