"""Pictures of a sweep: accuracy against what is saved, by skill, by evidence, and what of an image is kept."""
