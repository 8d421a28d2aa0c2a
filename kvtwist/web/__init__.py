"""How bytes become requests and replies: twisted.web, made strict for an open network. It knows no dialect."""

from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.service import HTTPService
from kvtwist.web.stock import StoreSite

__all__ = ["Dispatcher", "HTTPService", "StoreSite"]
