"""What papers' claims share: drawn matrices, intervals of means and slopes, tuned training runs."""
