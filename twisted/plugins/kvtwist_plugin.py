"""Registers `twistd kvstore` with Twisted; `kvtwist.tap` implements it."""

from twisted.application.service import ServiceMaker

kvstore = ServiceMaker(
    "kvtwist",
    "kvtwist.tap",
    "A durable HTTP key-value server.",
    "kvstore",
)
