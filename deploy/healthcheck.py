"""Succeeds if the server in this container answers GET /health, or GET of the given path, with 2xx."""

import os
import sys
from urllib.request import ProxyHandler, build_opener

path = sys.argv[1] if len(sys.argv) > 1 else "/health"
url = f"http://127.0.0.1:{os.environ['KVTWIST_PORT']}{path}"
try:
    build_opener(ProxyHandler({})).open(url, timeout=2)  # ignore a proxy in the container's environment
except OSError as error:
    sys.exit(f"{url}: {error}")
