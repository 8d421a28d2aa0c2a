"""Each room by itself, without sockets, threads or waiting."""
