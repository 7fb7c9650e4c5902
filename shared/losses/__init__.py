"""Loss terms that several families weigh and add up."""
