"""From runs and qrels to measures with their uncertainty; never imports the system."""
