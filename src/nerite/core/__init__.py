"""Floor 0: the words every other floor speaks. Standard library and numpy, ml_dtypes if there."""
