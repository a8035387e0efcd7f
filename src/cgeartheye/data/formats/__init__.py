"""Annotation files: COCO, VOC, DOTA, YOLO, masks."""
