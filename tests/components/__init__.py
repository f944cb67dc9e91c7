"""Servers of others that speak OpenAI's protocols, driven through the service: `./run components`."""
