"""`/api/sessions`: sessions, search, export and import."""
