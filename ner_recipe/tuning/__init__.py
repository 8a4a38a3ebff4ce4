"""How to find good settings: the learning-rate range test and the hyperparameter search."""
