"""The HTTP server: uvicorn with bounds on requests and an ordered shutdown."""
