"""Data of one's own: read from JSON lines, CSV, parquet or a folder, checked, and asked as an lmms-eval task."""
