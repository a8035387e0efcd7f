"""Train object detection with horizontal boxes: the published command; see `published.py`."""

import published

if __name__ == "__main__":
    published.train(boxes="horizontal")
