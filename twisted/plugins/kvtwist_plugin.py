"""Makes `twistd kvstore` known to Twisted; everything it does is in `kvtwist.tap`."""

from twisted.application.service import ServiceMaker

kvstore = ServiceMaker(
    "kvtwist",
    "kvtwist.tap",
    "A durable key-value server that speaks five HTTP profiles.",
    "kvstore",
)
