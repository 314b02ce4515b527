"""Commands that train a model, sample from it, score it, and say what they would do."""
