"""What `bench/http.py` is made of: servers and their peers behind HTTP, a load generator, and what is measured."""
