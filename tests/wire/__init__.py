"""HTTP/1.1 byte by byte: framing, order, clients that hang up, and input that is not HTTP."""
