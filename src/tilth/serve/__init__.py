"""The service: what a shop assistant, a browser or a model asks over the network."""
