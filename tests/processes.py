"""Two processes that train together, with the environment that torchrun gives them."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def work(rank: int, port: int, function: Callable, out: Path, arguments: tuple) -> None:
    """One of the two. It has one thread: a fork has none of its parent's others."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    torch.set_num_threads(1)
    torch.save(function(*arguments), out / f"end{rank}.pt")


def in_two_processes(function: Callable, out: Path, *arguments) -> list:
    """What a function returns in each of two processes that train together. They are
    forked, which saves loading torch anew; a test that does this ignores Python's
    warning of it."""
    context = multiprocessing.get_context("fork")
    port = free_port()
    children = [
        context.Process(target=work, args=(rank, port, function, out, arguments))
        for rank in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(600)
        child.kill()
    assert [child.exitcode for child in children] == [0, 0]
    return [torch.load(out / f"end{rank}.pt", weights_only=True) for rank in range(2)]
