"""The devices of one machine that a sweep is spread over: ``launcher.devices=[0,1]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from parbench.errors import ParbenchError


def asked_devices(config: DictConfig) -> list[str] | None:
    """The devices of a configuration's launcher; None if it names none.

    Returns:
        Names such as ``cuda:1``; ``cpu`` occurs once for each process on the CPU.

    Raises:
        ParbenchError: The value is not a list or is empty, names a missing GPU or the same GPU twice, mixes device types, or
            contradicts ``model.device``.
    """
    value = config.launcher.get("devices")
    if value is None:
        return None
    given = OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
    if not isinstance(given, list) or not given:
        raise ParbenchError(f"launcher.devices={_shown(given)} is not a list of devices: write launcher.devices=[0,1]")
    devices = [_device(one) for one in given]
    for device in devices:
        if device != "cpu" and devices.count(device) > 1:
            raise ParbenchError(f"launcher.devices={_shown(given)} names {device} twice: a card runs one process")
    if len({device.partition(":")[0] for device in devices}) > 1:
        raise ParbenchError(
            f"launcher.devices={_shown(given)} mixes cards and CPU, whose numbers differ in their last bits: name one kind"
        )
    for key, neutral in (("device", "auto"), ("device_map", None)):
        if config.model.get(key) not in (neutral, None):
            raise ParbenchError(f"launcher.devices puts a whole model on each device: leave out model.{key}={config.model[key]}")
    return devices


def _device(name: Any) -> str:
    """The torch name of a device; a bare number is the index of a GPU."""
    if isinstance(name, bool) or not isinstance(name, int | str):
        raise ParbenchError(f"launcher.devices names {_shown(name)}, which is not a device: use 0, cuda:0 or cpu:0")
    from parbench.models.devices import resolve_device

    try:
        device = resolve_device(f"cuda:{name}" if isinstance(name, int) or name.isdecimal() else name)
    except ParbenchError as error:
        raise ParbenchError(f"launcher.devices names {name}: {error}") from error
    # cpu:0 and cpu:1 are the same CPU.
    return "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"


def _shown(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
