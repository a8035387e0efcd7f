"""Old names of config fields, which keep working for one release."""

from typing import Any

# Class of the section -> old name -> new name. A subclass inherits the entries of its bases.
FIELDS: dict[str, dict[str, str]] = {
    "MaskedData": {
        "largest_class": "max_class_ratio",
        "distortion": "color_jitter",
        "mask_ending": "mask_suffix",
    },
    "SegmentationData": {
        "image_ending": "image_suffix",
        "colours": "colors",
        "unlabelled": "unlabeled",
    },
    "ChangeData": {
        "before_ending": "before_suffix",
        "after_ending": "after_suffix",
        "unlabelled": "unlabeled",
    },
    "DetectionData": {
        "distortion": "color_jitter",
        "visible": "min_visibility",
        "smallest": "min_box_size",
    },
    "Network": {"normalisation": "normalization"},
    "DetectionDecoder": {
        "points": "num_points",
        "hidden": "ffn_dim",
        "denoising": "num_dn_queries",
        "box_noise": "box_noise_scale",
    },
    "ObjectDetection": {"detections": "max_detections"},
    # lr_scaling, new with base_batch_size, is by default what lr_batch meant in each section.
    "Training": {
        "decoder_lr": "decoder_lr_mult",
        "lr_batch": "base_batch_size",
        "accumulate": "grad_accum_steps",
    },
    "PretrainingSchedule": {
        "lr_batch": "base_batch_size",
        "patch_embed_lr": "patch_embed_lr_mult",
    },
    "PretrainingData": {"hold": "preload"},
    "Objective": {
        "masked_weight": "ibot_weight",
        "centring": "centering",
        "centre_momentum": "center_momentum",
    },
    "Pretraining": {"watch": "online_knn"},
    "PlaceDesign": {
        "cells": "cell_size",
        "total": "num_places",
        "band_height": "elevation_step",
    },
    "Curation": {"keep": "num_places", "duplicates": "dedup_threshold"},
    "Jlssd": {"licence": "license"},
}

# Class of the section -> field -> old value -> new value.
VALUES: dict[str, dict[str, dict[str, str]]] = {"Training": {"schedule": {"poly": "linear"}}}

# What `cgeartheye.config` exported under another name.
CLASSES = {"Colour": "Color", "Normalisation": "Normalization", "Watch": "OnlineKnn"}

_warned: set[str] = set()


def modernize(section: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of one section under the new names, with a note for each old one.

    Args:
        section: a class of config, whose bases count too.
        values: by field; not changed.

    Raises:
        ValueError: a field is there under its old and its new name.
    """
    values = dict(values)
    for name in (base.__name__ for base in section.__mro__):
        for old, new in FIELDS.get(name, {}).items():
            if old not in values:
                continue
            if new in values:
                raise ValueError(f"{new} is set twice, also as {old}: leave {old} out")
            values[new] = values.pop(old)
            note(f"{section.__name__}.{old}", new)
        for field, became in VALUES.get(name, {}).items():
            value = values.get(field)
            if isinstance(value, str) and value in became:
                values[field] = became[value]
                note(f"{section.__name__}.{field}: {value}", became[value])
    return values


def note(old: str, new: str) -> None:
    """Print that a name has changed, once for each in a process."""
    from cgeartheye.utils.console import warn  # not needed by most configs

    if old not in _warned:
        _warned.add(old)
        warn(f"{old} is now called {new}; the old name goes with the next release")
