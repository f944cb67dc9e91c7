"""Several upstreams: the file that lists them, the selection of one for each request, and its failures."""
