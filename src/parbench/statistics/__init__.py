"""Statistics of runs on the same questions: measures, bootstrap intervals over images, tests, power."""
