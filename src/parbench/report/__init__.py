"""A sweep as one HTML file that needs nothing else: table, scatter and a viewer of kept tokens."""
