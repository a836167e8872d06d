"""Exit code 0 if a file of a gateway, an HMI or an archive is valid: `validate.py KIND FILE`."""

import sys
from importlib import import_module
from pathlib import Path

LOADERS = {
    "gateway": ("edgeinspect.services.gateway.config", "load_config"),
    "hmi": ("edgeinspect.services.hmi.config", "load_hmi_config"),
    "archive": ("edgeinspect.services.archiver.config", "load_archive_config"),
}

kind, path = sys.argv[1:]
module, name = LOADERS[kind]
try:
    getattr(import_module(module), name)(Path(path))
except Exception as error:  # every fault of a file is one for the administrator
    sys.exit(f"{kind}: {error}")
