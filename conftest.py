"""What every test run shares: no network, few threads, kernels of this Python."""

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
NOWHERE = "http://127.0.0.1:9"  # the discard port: refuses at once


def pytest_configure(config):
    # Kernels and other child processes inherit these; a proxy that refuses keeps
    # them off the network just as `no_network` keeps this process off it. Of several
    # test processes (pytest -n) each computes on a core of its own.
    several = (getattr(config.option, "numprocesses", None) or 0) > 1
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1" if several else "2")
    # Threads that wait asleep: on shared cores, spinning ones cost a factor of ten.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = NOWHERE
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # What is remembered of folders of images stays out of the user's cache, and each
    # test process remembers its own.
    if not several:
        remembered = tempfile.mkdtemp(prefix="ldm-tests-")
        atexit.register(shutil.rmtree, remembered, ignore_errors=True)
        os.environ.setdefault("LDM_TUTORIAL_DATA", remembered)

    if not config.option.markexpr and not any("::" in arg for arg in config.args):
        config.option.markexpr = "not slow"
    if hasattr(config.option, "nbval"):
        config.option.nbval_cell_timeout = 600
        config.option.nbval_current_env = True
        config.option.nbval_sanitize_with = str(ROOT / "tests" / "nbval_sanitize.cfg")


def pytest_collection_modifyitems(items):
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needs_gpu:
        return
    import torch  # only here: it takes seconds to import

    if not torch.cuda.is_available():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def is_local(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    return (
        host in (None, "", "localhost", "::1", "0.0.0.0", socket.gethostname())
        or host.startswith("127.")
        or host.startswith(("/", "\0"))  # a Unix socket
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuse every connection and name look-up that would leave this machine."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self, address):
        host = address[0] if isinstance(address, tuple) else address
        if not is_local(host):
            raise OSError(f"tests stay off the network: connection to {host!r} refused")
        return connect(self, address)

    def guarded_look_up(host, *args, **kwargs):
        if not is_local(host):
            raise OSError(f"tests stay off the network: look-up of {host!r} refused")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    monkeypatch.setenv("MPLBACKEND", "Agg")
