"""The kinds of file and folder that commands take, as types of click's parameters."""

from __future__ import annotations

from pathlib import Path

import click

LINE_FILE = HMI_FILE = GATEWAY_FILE = ARCHIVE_FILE = click.Path(path_type=Path)
LEDGER = click.Path(path_type=Path)
SPOOL = click.Path(path_type=Path)
RECORDING = click.Path(path_type=Path)
IMAGES = IMAGES_FOLDER = click.Path(path_type=Path)
ARCHIVE = click.Path(path_type=Path)
DATASET = click.Path(path_type=Path)
SPLIT_FILE = click.Path(path_type=Path)
SHADOW_RESULTS = click.Path(path_type=Path)
KEYS_FOLDER = click.Path(path_type=Path)
PUBLIC_KEY = click.Path(path_type=Path)
ONNX_FILE = click.Path(path_type=Path)
WEIGHTS = click.Path(path_type=Path)
CORRECTIONS = click.Path(path_type=Path)
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
RECORDING_OUTPUT = click.Path(path_type=Path)
OUTPUT_FOLDER = NEW_FOLDER = click.Path(path_type=Path, file_okay=False)
STORE_FOLDER = click.Path(path_type=Path, file_okay=False)
MODEL = STORED_MODEL = DATA = FRAMES = LINE = CHALLENGE_IMAGE = BUILD_TARGET = click.STRING
