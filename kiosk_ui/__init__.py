"""The voice kiosk: visits, screens and voice. Its first visit comes with its own issue."""
