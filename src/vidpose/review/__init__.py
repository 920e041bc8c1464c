"""A page on which a person corrects labels and propagates again."""
