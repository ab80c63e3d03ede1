"""The trained parts of learned methods, as evaluation and training use them."""
