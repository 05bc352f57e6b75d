"""To and from other libraries: weights, and models without PyTorch."""
