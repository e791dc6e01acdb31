"""Tilth in frameworks for assistants: a client of the service, and retrievers."""
