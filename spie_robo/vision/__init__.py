"""Share frozen image features between guard, feedback, evaluation and pretraining."""
