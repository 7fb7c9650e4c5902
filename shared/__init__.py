"""What the services and the trainer have in common; imports neither of them."""
