"""The tap validator: decides one tap, and phrases it in light, sound and words."""
