"""Recordings of event cameras: reading them, their labels, and what training reads of them."""
