"""The book's recorded experiments; ``reproduce.py`` lists them."""
