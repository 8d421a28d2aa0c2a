"""
Tests, for pytest and for trial, which both come by here before anything else.

So this is where hypothesis is told to make the same examples in every run, however long one takes; and where Ctrl-C gets its
meaning back: a shell ignores SIGINT for what a script runs in the background, and all that is started from here would as well.
"""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.load_profile("repeatable")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
