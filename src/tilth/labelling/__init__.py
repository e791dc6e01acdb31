"""From opinions to labels: who judged what, what to judge next, and how far to trust it."""
