"""Reading catalogues: JSONL, CSV, TSV, Parquet and the RSS/Atom product feed, as a stream of products."""
