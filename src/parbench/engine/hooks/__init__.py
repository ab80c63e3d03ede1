"""Forward hooks on a Hugging Face model, and a context manager that removes them again."""
