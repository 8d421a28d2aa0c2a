"""Private attributes of Klein are checked at the start."""

from __future__ import annotations

from klein import Klein
from twisted.trial.unittest import SynchronousTestCase

from kvtwist import klein_apps


class CheckTests(SynchronousTestCase):
    def test_the_klein_that_is_installed_is_supported(self) -> None:
        klein_apps.check()

    def test_a_klein_that_keeps_things_elsewhere_fails_at_the_start(self) -> None:
        for name in ("endpoints", "url_map", "execute_error_handler"):
            self.patch(Klein, name, property(lambda app: app.moved))
            self.assertRaisesRegex(RuntimeError, "Klein is not supported", klein_apps.check)

    def test_a_klein_whose_wrappers_hide_the_handler_fails_at_the_start(self) -> None:
        self.patch(klein_apps, "inspect", type("inspect", (), {"unwrap": staticmethod(lambda wrapper: wrapper)}))
        self.assertRaisesRegex(RuntimeError, "wraps handlers differently", klein_apps.check)
