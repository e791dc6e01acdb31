"""The door for programs: JSON over HTTP. It parses, calls the service, and formats."""
