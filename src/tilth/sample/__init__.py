"""A seeded garden-supplies shop of any size, in English and Russian, with queries and qrels."""
