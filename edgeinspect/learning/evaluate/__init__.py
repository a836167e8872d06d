"""How good a model is: figures with their intervals, from exported graphs."""
