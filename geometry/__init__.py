"""From a gradient to a direction: pure functions on (..., m, n) tensors."""
