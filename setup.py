"""Packages kvtwist, and the plugin that adds `twistd kvstore` to Twisted's plugin directory."""

import re
from pathlib import Path

from setuptools import find_packages, setup

SOURCE = Path(__file__).parent / "kvtwist/__init__.py"
VERSION = re.search(r'^__version__ = "(.+)"$', SOURCE.read_text(encoding="utf-8"), re.MULTILINE)[1]

# Upper bounds exclude the next release that may break kvtwist; constraints.txt pins the tested versions.
REQUIRES = [
    "Twisted[tls]>=26.10,<27",  # older versions accept a bare CR or LF in header values
    "klein>=24.8,<25",
    "werkzeug>=3.1,<4",  # klein's routing
    "zope.interface>=8,<9",
    "httptools>=0.7,<0.10",
    "attrs>=24.1,<27",
    "msgspec>=0.19,<0.23",
    "sortedcontainers>=2.4,<3",
    "prometheus-client>=0.21,<1",
    "click>=8.2,<9",
    "rich>=14,<16",
    "treq>=24.9,<27",
]
TEST = [
    *("pytest>=8.3,<10", "pytest-twisted>=1.14,<2", "pytest-timeout>=2.4,<3", "pytest-xdist>=3.8,<4"),
    *("hypothesis>=6.100,<7", "h11>=0.14,<1"),
    *("requests>=2.32,<3", "httpx>=0.28,<1", "aiohttp>=3.11,<4"),  # independent clients
    "schemathesis>=4.32,<5; python_version >= '3.11'",
    *("playwright>=1.60,<2", "axe-playwright-python>=0.1.8,<0.2"),  # drive Debian's chromium, check accessibility
]
MUTATION = ["cosmic-ray>=8.4,<9", "parso>=0.8,<1"]
# Wheels exist for these Pythons on x86-64 Linux; elsewhere it would have to be built, with clang.
FUZZ = ["atheris>=2.3,<4; python_version < '3.14' and platform_machine == 'x86_64' and sys_platform == 'linux'"]
BENCH = ["lmdb>=1.5,<4", "matplotlib>=3.9,<4", "psutil>=6,<8", "uvicorn>=0.30,<1", "uvloop>=0.19,<1"]
STUBS = ["sortedcontainers-stubs>=2.4,<3", "types-psutil>=6,<8"]
LINT = ["ruff>=0.15,<0.18", "mypy>=1.15,<2.5", "mypy-zope>=1.0.11,<2", *STUBS]

setup(
    name="kvtwist",
    version=VERSION,
    description="A durable key-value server on Twisted with six HTTP profiles over one store",
    author="kvtwist contributors",
    license="MIT",
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 16)),
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # Explicit, so that `pip install -e` adds a plain entry to sys.path, where Twisted looks for plugins.
    package_dir={"": "."},
    # twisted/plugins has no __init__.py: it becomes part of Twisted's own package, which all plugins share.
    packages=[*find_packages(include=["kvtwist", "kvtwist.*"]), "twisted.plugins"],
    package_data={"kvtwist": ["py.typed", "console/*"]},
    zip_safe=False,
    install_requires=REQUIRES,
    entry_points={"console_scripts": ["kvtwist = kvtwist.cli.main:main"]},
    extras_require={
        "test": TEST,
        "fuzz": [*TEST, *FUZZ],
        "mutation": [*TEST, *MUTATION],
        "bench": BENCH,
        "lint": LINT,
        "dev": [*TEST, *BENCH, *LINT, "tox>=4.28,<5"],
    },
)
