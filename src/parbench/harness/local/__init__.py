"""A user's own data: read from JSON Lines, CSV, Parquet or a folder, validated, and evaluated as an lmms-eval task."""
