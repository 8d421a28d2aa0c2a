"""Succeeds when the server in this container answers a GET well: of /health, or of the path given."""

import os
import sys
from urllib.request import ProxyHandler, build_opener

path = sys.argv[1] if len(sys.argv) > 1 else "/health"
url = f"http://127.0.0.1:{os.environ['KVTWIST_PORT']}{path}"
try:
    build_opener(ProxyHandler({})).open(url, timeout=2)  # no proxy, whatever the container's environment says
except OSError as error:
    sys.exit(f"{url}: {error}")
