"""Maps, contact sheets, plots and pages for looking at results."""
