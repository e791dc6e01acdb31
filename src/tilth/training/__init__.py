"""From judged queries to a reranker: pools, held-out scores, the choice of a model, and its report."""
