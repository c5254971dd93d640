"""What people see, hear and press: Protocols, values and adapters side by side."""
