"""What is owed, in order: entries, their chain and the store that keeps them."""
