"""Streams: chunks that clients send, cut into windows, with the state that a model carries between them."""
