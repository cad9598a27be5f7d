"""What the log shows once models are loaded: Triton's tables of the models and of the options."""

from __future__ import annotations

from collections.abc import Sequence

import nerite
from nerite import painter, telemetry
from nerite.frontends.v2_metadata import server_metadata
from nerite.server import Server
from nerite.settings import Settings
from nerite.versions import ModelState


def tables(server: Server, options: Settings) -> tuple[str, str]:
    """Of the models, and of the options."""
    return (
        telemetry.table(("Model", "Version", "Status"), _models(server.states())),
        telemetry.table(("Option", "Value"), _options(server, options)),
    )


def _models(states: Sequence[ModelState]) -> list[tuple[str, str, str]]:
    rows = []
    for state in states:
        version = str(state.version) if state.version else "-"
        status = f"{state.state}: {state.reason}" if state.reason else state.state
        rows.append((state.name, version, status))
    return rows


def _options(server: Server, options: Settings) -> list[tuple[str, str]]:
    """The rows of Triton's table that mean something here."""
    paths = options.model_repository or [str(painter.REPOSITORY)]
    metadata = server_metadata(server, nerite.__version__)
    return [
        ("server_id", options.id),
        ("server_version", nerite.__version__),
        ("server_extensions", " ".join(metadata["extensions"])),
        *((f"model_repository_path[{index}]", path) for index, path in enumerate(paths)),
        ("model_control_mode", f"MODE_{options.model_control_mode.upper()}"),
        *((f"startup_models_{index}", one) for index, one in enumerate(options.load_model)),
        ("strict_model_config", str(int(options.disable_auto_complete_config))),
        ("model_config_name", options.model_config_name),
        ("rate_limit", "OFF" if options.rate_limit == "off" else "EXEC_COUNT"),
        ("strict_readiness", str(int(options.strict_readiness))),
        ("exit_timeout", str(options.exit_timeout_secs)),
        ("cache_enabled", str(int(bool(options.cache_config)))),
    ]
