"""What a drawing gives back, and the text from which it can be drawn again."""
