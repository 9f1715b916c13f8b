"""One report a person reads: tables, verdicts, figures, and the page they stand on."""
