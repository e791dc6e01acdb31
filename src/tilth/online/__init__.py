"""What users did: clicks, and what they say once position is accounted for."""
