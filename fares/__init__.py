"""What a ride costs and why: compiled fare tables, and schemes as dated data."""
