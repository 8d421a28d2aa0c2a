"""How bytes become requests and replies."""
