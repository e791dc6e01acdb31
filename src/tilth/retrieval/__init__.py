"""From a catalogue to an index, and from a query to runs: lexical, dense, fused."""
