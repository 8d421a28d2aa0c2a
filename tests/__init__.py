"""
Tests, for pytest and for trial, which both come by here before anything else.

So this is where hypothesis is told to make the same examples in every run, however long one takes.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.load_profile("repeatable")
