"""Pages and pictures for looking at results."""
