"""Everything a run reports: text, figures, the page, the model card and the run record."""
