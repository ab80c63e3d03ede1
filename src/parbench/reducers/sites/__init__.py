"""Base classes of methods, one per site."""
