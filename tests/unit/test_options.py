"""Every option as a flag, with and without `=`, and as a variable; an invalid one gives one clear line."""

from __future__ import annotations

import io
import sys
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from kvtwist import __version__
from kvtwist.profiles import PROFILES, Settings
from kvtwist.tap import DEFAULT_DIRECTORY, Options, port, size
from kvtwist.web.limits import WebLimits

# Option, text, value.
GOOD: list[tuple[str, str, Any]] = [
    ("port", "8001", 8001),
    ("port", "0", 0),
    ("port", "65535", 65535),
    ("interface", "::1", "::1"),
    ("interface", "0.0.0.0", "0.0.0.0"),
    ("endpoint", "unix:/run/kv.sock", "unix:/run/kv.sock"),
    ("working-dir", "/srv/kv", "/srv/kv"),
    ("working-dir", "a b", "a b"),
    ("store", "memory", "memory"),
    ("store", "dir", "dir"),
    ("durability", "sync", "sync"),
    ("durability", "os", "os"),
    ("max-value", "1", 1),
    ("max-value", "1000", 1000),
    ("max-value", "64k", 65536),
    ("max-value", "64KiB", 65536),
    ("max-value", "8 MiB", 8 * 2**20),
    ("max-value", "1GB", 2**30),
    ("max-key", "255b", 255),
    ("max-staged", "1MiB", 2**20),
    ("max-operations", "1", 1),
    ("max-operations", "600000", 600_000),
    ("max-watches", "1", 1),
    ("max-in-flight", "1MiB", 2**20),
    ("max-head", "1k", 1024),
    ("max-head", "1MiB", 2**20),
    ("max-target", "64", 64),
    ("max-target", "4KiB", 4096),
    ("max-connections", "1", 1),
    ("max-connections", "100000", 100_000),
    ("head-timeout", "1", 1),
    ("body-timeout", "0120", 120),
    ("idle-timeout", "86400", 86_400),
    ("clock-step", "1", 1),
    ("clock-step", "315360000", 315_360_000),
    ("memory-limit", "32MiB", 2**25),
    ("admin", "off", "off"),
    ("access-log", "off", "off"),
    ("access-log", "common", "common"),
    ("access-log", "json", "json"),
    ("log-level", "debug", "debug"),
    ("log-level", "error", "error"),
    ("log-buffer", "4KiB", 4096),
    ("log-buffer", "1GiB", 2**30),
]

# Option, text, and a part of the message.
BAD = [
    ("port", "65536", "65536"),
    ("port", "-1", "-1"),
    ("port", "http", "http"),
    ("port", "80.0", "80.0"),
    ("port", "", "port"),
    ("port", "\u0663", "port"),
    ("store", "disk", "memory, dir"),
    ("store", "Memory", "memory, dir"),
    ("durability", "none", "sync, os"),
    ("max-value", "0", "size"),
    ("max-value", "-5", "size"),
    ("max-value", "1.5MiB", "size"),
    ("max-value", "8TiB", "size"),
    ("max-value", "lots", "size"),
    ("max-value", "", "size"),
    ("max-value", "9" * 5000, "max-value"),
    ("max-key", "0k", "size"),
    ("max-staged", "MiB", "size"),
    ("max-in-flight", "0", "size"),
    ("max-head", "1023", "max-head"),
    ("max-target", "63", "max-target"),
    ("max-target", "1GiB", "max-target"),
    ("max-operations", "0", "0"),
    ("max-operations", "10k", "10k"),
    ("max-watches", "0", "1 to 10000000"),
    ("max-connections", "0", "1 to 10000000"),
    ("max-connections", "many", "1 to 10000000"),
    ("max-connections", "9" * 5000, "1 to 10000000"),
    ("head-timeout", "0", "1 to 86400"),
    ("head-timeout", "10s", "1 to 86400"),
    ("body-timeout", "-1", "1 to 86400"),
    ("body-timeout", "1.5", "1 to 86400"),
    ("idle-timeout", "86401", "1 to 86400"),
    ("idle-timeout", "\u0663", "1 to 86400"),
    ("clock-step", "0", "1 to 999999999"),
    ("memory-limit", "-1", "size"),
    ("memory-limit", "1", "memory-limit"),
    ("max-key", "64KiB", "max-key"),
    ("access-log", "on", "off, common, json"),
    ("log-level", "loud", "debug, info, warn, error"),
    ("log-buffer", "4095", "log-buffer"),
    ("log-buffer", "1025MiB", "log-buffer"),
    ("profile", "redis", "transactional, history, lsfr, clstr, keys"),
    ("profile", "LSFR", "lsfr"),
    ("cors-origin", "app.example", "such as https://app.example"),
    ("cors-origin", "*", "such as https://app.example"),
    ("cors-origin", "https://app.example/", "such as https://app.example"),
]

LETTERS = {"port": "p", "working-dir": "w", "profile": "P"}


def parse(*arguments: str, **environment: str) -> Options:
    options = Options(environment)
    options.parseOptions(list(arguments))
    return options


def variable(option: str) -> str:
    return "KVTWIST_" + option.upper().replace("-", "_")


class OptionsTests(SynchronousTestCase):
    def test_every_option_by_flag_and_by_environment(self) -> None:
        for option, text, value in GOOD:
            for options in (
                parse(f"--{option}", text),
                parse(f"--{option}={text}"),
                parse(**{variable(option): text}),
            ):
                self.assertEqual(options[option], value)
        for option, letter in LETTERS.items():
            text = "lsfr" if option == "profile" else "8001"
            for arguments in ([f"-{letter}", text], [f"-{letter}{text}"]):
                self.assertIn(str(parse(*arguments)[option]), (text, f"['{text}']"))

    def test_every_option_is_tried_here(self) -> None:
        names = {name for name, *_ in Options.optParameters}
        self.assertEqual(names, {option for option, _, _ in GOOD})

    def test_a_flag_is_given_alone_or_by_a_word_in_the_environment(self) -> None:
        self.assertIs(parse()["ui"], False)
        self.assertIs(parse("--ui")["ui"], True)
        self.assertIs(parse("--ui", KVTWIST_UI="0")["ui"], True)
        for text, value in (("1", True), ("true", True), ("0", False), ("false", False), ("", False)):
            self.assertIs(parse(KVTWIST_UI=text)["ui"], value)
        for text in ("yes", "2", "True"):
            with self.assertRaises(usage.UsageError) as caught:
                parse(KVTWIST_UI=text)
            self.assertEqual(str(caught.exception), f"--ui: true or false is expected, not {text!r}")

    def test_the_command_line_wins(self) -> None:
        options = parse(
            "--port=1", "--profile", "keys", KVTWIST_PORT="2", KVTWIST_PROFILE="lsfr", KVTWIST_STORE="memory"
        )
        self.assertEqual((options["port"], options["profile"], options["store"]), (1, ["keys"], "memory"))

    def test_an_invalid_value_gives_one_line(self) -> None:
        for option, text, part in BAD:
            ways: list[tuple[list[str], dict[str, str]]] = [
                ([f"--{option}={text}"], {}),
                ([f"--{option}", text], {}),
                ([], {variable(option): text}),
            ]
            for arguments, environment in ways:
                with self.assertRaises(usage.UsageError, msg=(option, text)) as caught:
                    parse(*arguments, **environment)
                message = str(caught.exception)
                self.assertIn(part, message)
                self.assertNotIn("\n", message)
                self.assertLess(len(message), 300, "nobody reads that")
                if option != "profile":
                    self.assertIn(f"--{option}", message)

    def test_unknown_options_and_arguments_are_named(self) -> None:
        for arguments in (["--ports=1"], ["-x"], ["stray"], ["--port"], ["--port=1", "stray"]):
            self.assertRaises(usage.UsageError, parse, *arguments)

    def test_under_twistd_it_is_that_line_alone_and_the_end(self) -> None:
        options = Options({})
        options.parent = usage.Options()
        with self.assertRaises(SystemExit) as caught:
            options.parseOptions(["--port=http"])
        self.assertRegex(str(caught.exception.code), r"\Akvtwist: --port: .*'http'.*\Z")

    def test_the_logger_of_earlier_versions_is_still_accepted(self) -> None:
        for logger, expected in (("kvtwist.ops.logs.stdout", None), ("my.own", "my.own"), (None, None)):
            options = Options({})
            options.parent = usage.Options()
            options.parent["logger"] = logger
            options.parseOptions([])
            self.assertEqual(options.parent["logger"], expected)

    def test_profiles_may_be_repeated(self) -> None:
        self.assertEqual(parse()["profile"], ["transactional"])
        self.assertEqual(parse("--profile", "lsfr", "-P", "keys")["profile"], ["lsfr", "keys"])
        self.assertEqual(parse(KVTWIST_PROFILE="lsfr, keys")["profile"], ["lsfr", "keys"])
        for name in PROFILES:
            self.assertEqual(parse("--profile", name)["profile"], [name])

    def test_origins_may_be_repeated(self) -> None:
        self.assertEqual(parse()["cors-origin"], [])
        options = parse("--cors-origin", "https://A.example", "--cors-origin=http://b:1")
        self.assertEqual(options["cors-origin"], ["https://a.example", "http://b:1"])
        self.assertEqual(parse(KVTWIST_CORS_ORIGIN="http://a, http://b")["cors-origin"], ["http://a", "http://b"])
        self.assertEqual(parse("--cors-origin=http://c", KVTWIST_CORS_ORIGIN="http://a")["cors-origin"], ["http://c"])

    def test_the_defaults_of_profiles_are_those_of_the_options(self) -> None:
        options, settings = parse(), Settings()
        for name in ("max-value", "max-key", "max-staged", "max-operations"):
            self.assertEqual(getattr(settings, name.replace("-", "_")), options[name], name)

    def test_the_defaults_of_the_front_are_those_of_the_options(self) -> None:
        options, limits = parse(), WebLimits()
        for name in ("head", "target", "connections"):
            self.assertEqual(getattr(limits, name), options[f"max-{name}"], name)
        for name in ("head", "body", "idle"):
            self.assertEqual(getattr(limits, f"{name}_seconds"), options[f"{name}-timeout"], name)

    def test_the_first_profile_decides_over_port_and_store(self) -> None:
        defaults = {
            "transactional": (4000, "dir"),
            "history": (3000, "memory"),
            "lsfr": (4000, "dir"),
            "clstr": (8080, "dir"),
            "keys": (8000, "dir"),
            "native": (4000, "dir"),
        }
        self.assertEqual(set(defaults), set(PROFILES))
        for name, expected in defaults.items():
            options = parse("--profile", name, "--profile", "lsfr")
            self.assertEqual((options["port"], options["store"]), expected)

    def test_a_directory_that_is_named_is_used(self) -> None:
        for options in (
            parse("--profile=history", "--working-dir=d"),
            parse("--profile=history", DATA_DIR="d"),
            parse("--profile=history", KVTWIST_WORKING_DIR="d"),
        ):
            self.assertEqual((options["store"], options["working-dir"]), ("dir", "d"))
        self.assertEqual(parse("--profile=history", "--working-dir=d", "--store=memory")["store"], "memory")
        self.assertEqual(parse()["working-dir"], DEFAULT_DIRECTORY)

    def test_the_directory_of_the_command_line_comes_before_ours_in_the_environment_and_that_before_data_dir(
        self,
    ) -> None:
        self.assertEqual(parse("-w", "a", KVTWIST_WORKING_DIR="b", DATA_DIR="c")["working-dir"], "a")
        self.assertEqual(parse(KVTWIST_WORKING_DIR="b", DATA_DIR="c")["working-dir"], "b")
        self.assertEqual(parse(DATA_DIR="c")["working-dir"], "c")

    def test_the_endpoint_is_made_of_port_and_interface(self) -> None:
        self.assertTrue(parse()["endpoint"].startswith("tcp:4000:interface=127.0.0.1:"))
        self.assertTrue(parse("--interface=::1", "--port=1")["endpoint"].startswith(r"tcp:1:interface=\:\:1:"))
        self.assertEqual(parse("--endpoint=unix:/x", "--port=1")["endpoint"], "unix:/x")

    def test_other_variables_of_the_environment_do_not_matter(self) -> None:
        self.assertEqual(dict(parse(PORT="1", KVTWIST_NOTHING="x", HOME="/")), dict(parse()))

    def test_a_variable_that_is_no_option_is_a_warning(self) -> None:
        with capturedLogs() as events:
            parse(KVTWIST_MAX_VALUES="1", KVTWIST_XYZ="2", KVTWIST_PROFILE="lsfr", KVTWIST_PORT="1", OTHER="3")
        self.assertEqual(
            [(event["log_level"].name, formatEvent(event)) for event in events],
            [
                ("warn", "unknown environment variable KVTWIST_MAX_VALUES; did you mean KVTWIST_MAX_VALUE?"),
                ("warn", "unknown environment variable KVTWIST_XYZ"),
            ],
        )

    def test_help_names_every_option_and_the_environment(self) -> None:
        text = str(Options({}))
        for name in ("--profile", "--ui", *(f"--{option}" for option, _, _ in GOOD)):
            self.assertIn(name, text)
        self.assertIn("KVTWIST_MAX_VALUE", text)

    def test_version(self) -> None:
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        with self.assertRaises(SystemExit) as caught:
            parse("--version")
        self.assertIn(caught.exception.code, (0, None))
        self.assertEqual(output.getvalue(), f"kvtwist {__version__}\n")


class ValueTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        for text, value in (
            ("1", 1),
            ("10b", 10),
            ("2k", 2048),
            ("2K", 2048),
            ("2kb", 2048),
            ("2KiB", 2048),
            (" 1 m ", 2**20),
        ):
            self.assertEqual(size(text), value)
        for text in ("", " ", "k", "0", "00", "-1", "+1", "1.0", "1e3", "1 k b", "1kibi", "0x10", "1_0"):
            self.assertRaises(ValueError, size, text)

    def test_ports(self) -> None:
        self.assertEqual([port(text) for text in ("0", "1", "65535", "0080")], [0, 1, 65535, 80])
        for text in ("", "-1", "65536", "1.0", "1e3", " 1", "½", "²", "٣"):
            self.assertRaises(ValueError, port, text)
