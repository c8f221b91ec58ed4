"""What papers' claims measure by alike: intervals of means and slopes, and tuned training runs."""
