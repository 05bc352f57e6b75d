"""Which device is chosen."""

import platform

import pytest
import torch

from ldm_tutorial.machine import best_device, computes_bf16


@pytest.fixture
def devices(monkeypatch):
    """Pretend that there are so many CUDA devices, or a Mac's GPU."""
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    def pretend(cuda: int = 0, mps: bool = False, **environment: str):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return pretend


@pytest.mark.parametrize(
    "cuda, mps, environment, wanted",
    [
        (0, False, {}, "cpu"),
        (0, True, {}, "mps"),
        (1, False, {}, "cuda"),
        (1, True, {}, "cuda"),
        (4, False, {"WORLD_SIZE": "4", "LOCAL_RANK": "2"}, "cuda:2"),
        (4, False, {"LOCAL_RANK": "2"}, "cuda"),
        (4, False, {"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "cuda"),
        (0, True, {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "cpu"),
    ],
)
def test_the_best_device_is_chosen(devices, cuda, mps, environment, wanted):
    devices(cuda, mps, **environment)
    assert best_device() == torch.device(wanted)


def test_more_processes_than_devices_are_refused(devices):
    devices(2, WORLD_SIZE="3", LOCAL_RANK="2")
    with pytest.raises(ValueError, match="LOCAL_RANK=2 and there are 2 CUDA devices"):
        best_device()


@pytest.mark.parametrize(
    "library, machine, has, wanted",
    [
        (True, "x86_64", "_is_avx512_bf16_supported", True),
        (True, "AMD64", "_is_amx_tile_supported", True),
        (True, "x86_64", None, False),  # AVX-512 without bf16: four times slower
        (False, "x86_64", None, False),
        (True, "aarch64", None, True),
        (False, "arm64", None, False),
    ],
)
def test_bf16_is_for_cpus_that_have_instructions_for_it(
    library, machine, has, wanted, monkeypatch
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: library)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == has)
    assert computes_bf16(torch.device("cpu")) == wanted
    assert computes_bf16(torch.device("cuda"))
