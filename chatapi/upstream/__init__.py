"""The client of the model API."""
