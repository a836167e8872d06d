"""The operating system and untrusted input: files, log, systemd, real-time settings, decoding."""

from edgeinspect.system.decoding import (
    DecodeError,
    Decoder,
    decode_arrays,
    decode_json,
    decode_json_names,
    decode_yaml_text,
    json_decoder,
    msgpack_decoder,
)
from edgeinspect.system.file_ownership import (
    OwnershipProblem,
    find_user_id,
    folder_problem,
    owner_problem,
    user_name,
    write_permission_problem,
)
from edgeinspect.system.files import (
    FileLock,
    atomic_file,
    is_locked,
    is_same_file,
    list_matching,
    write_atomic,
)
from edgeinspect.system.folder_claim import (
    CLAIM_FILE,
    check_unclaimed,
    claim_folder,
    is_empty_but_for_claim,
)
from edgeinspect.system.gpu_devices import gpu_names
from edgeinspect.system.log import RateLimitedLogger, configure
from edgeinspect.system.machine_info import describe_machine
from edgeinspect.system.protobuf import (
    append_protobuf_bytes,
    append_protobuf_int,
    read_protobuf_fields,
)
from edgeinspect.system.realtime import freeze_gc, set_thread_realtime
from edgeinspect.system.regular_file import (
    MODEL_BYTES_MAX,
    TEXT_BYTES_MAX,
    FileMissingError,
    FileReadError,
    NotRegularError,
    check_regular,
    escape_name,
    is_regular,
    open_regular,
    read_regular,
    read_text,
    sha256_of,
    unescape_name,
)
from edgeinspect.system.signals import signal_handlers
from edgeinspect.system.systemd import WatchdogNotifier, sd_notify
from edgeinspect.system.time_text import ParsedTime, format_local, format_utc, parse_time
from edgeinspect.system.untrusted_text import (
    TableWriter,
    escape_json,
    escape_line,
    escape_lines,
    is_short_decimal,
    unescape_cell,
)
from edgeinspect.system.user_file import Role, User, UserFile
from edgeinspect.system.wall_clock import (
    ClockStep,
    ClockStepDetector,
    RetentionClock,
    is_synchronised,
)

__all__ = [
    # decoding
    "DecodeError",
    "Decoder",
    "decode_arrays",
    "decode_json",
    "decode_json_names",
    "decode_yaml_text",
    "json_decoder",
    "msgpack_decoder",
    # file ownership
    "OwnershipProblem",
    "find_user_id",
    "folder_problem",
    "owner_problem",
    "user_name",
    "write_permission_problem",
    # files
    "FileLock",
    "atomic_file",
    "is_locked",
    "is_same_file",
    "list_matching",
    "write_atomic",
    # folder claim
    "CLAIM_FILE",
    "check_unclaimed",
    "claim_folder",
    "is_empty_but_for_claim",
    # gpu devices
    "gpu_names",
    # log
    "RateLimitedLogger",
    "configure",
    # machine info
    "describe_machine",
    # protobuf
    "append_protobuf_bytes",
    "append_protobuf_int",
    "read_protobuf_fields",
    # realtime
    "freeze_gc",
    "set_thread_realtime",
    # regular file
    "MODEL_BYTES_MAX",
    "TEXT_BYTES_MAX",
    "FileMissingError",
    "FileReadError",
    "NotRegularError",
    "check_regular",
    "escape_name",
    "is_regular",
    "open_regular",
    "read_regular",
    "read_text",
    "sha256_of",
    "unescape_name",
    # signals
    "signal_handlers",
    # systemd
    "WatchdogNotifier",
    "sd_notify",
    # time text
    "ParsedTime",
    "format_local",
    "format_utc",
    "parse_time",
    # untrusted text
    "TableWriter",
    "escape_json",
    "escape_line",
    "escape_lines",
    "is_short_decimal",
    "unescape_cell",
    # user file
    "Role",
    "User",
    "UserFile",
    # wall clock
    "ClockStep",
    "ClockStepDetector",
    "RetentionClock",
    "is_synchronised",
]
