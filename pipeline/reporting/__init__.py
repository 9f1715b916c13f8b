"""The report: tables, verdicts, figures, and the HTML page that contains them."""
