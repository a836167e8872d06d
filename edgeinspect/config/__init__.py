"""Configuration: types, loading with every fault listed, and the hash verdicts carry."""

from edgeinspect.config.cross_checks import address_problem, check_models, is_local
from edgeinspect.config.loader import (
    LoadedConfig,
    PluginSelection,
    dump_canonical,
    load_config,
    parse_config,
)
from edgeinspect.config.schema import (
    AlarmsConfig,
    CameraActByConfig,
    ConfigSection,
    GateThresholds,
    LineConfig,
    Name,
    PluginTable,
    Ratio,
    RealTimeConfig,
    UnknownThresholds,
)
from edgeinspect.config.validation import (
    INVALID,
    ConfigValidator,
    describe_type,
    open_document,
    suggest_spelling,
)
from edgeinspect.config.yaml_document import YamlNode

__all__ = [
    # cross checks
    "address_problem",
    "check_models",
    "is_local",
    # loader
    "LoadedConfig",
    "PluginSelection",
    "dump_canonical",
    "load_config",
    "parse_config",
    # schema
    "AlarmsConfig",
    "CameraActByConfig",
    "GateThresholds",
    "LineConfig",
    "Name",
    "PluginTable",
    "Ratio",
    "RealTimeConfig",
    "UnknownThresholds",
    "ConfigSection",
    # validation
    "INVALID",
    "ConfigValidator",
    "describe_type",
    "open_document",
    "suggest_spelling",
    # yaml document
    "YamlNode",
]
