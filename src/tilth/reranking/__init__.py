"""From candidates to a better order: features, models, calibration."""
