"""Wire formats that both sides of the service use."""
