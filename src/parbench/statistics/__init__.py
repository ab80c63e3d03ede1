"""Statistics of runs over the same questions: measures, intervals by image, tests, power."""
