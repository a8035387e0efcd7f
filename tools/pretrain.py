"""Pre-train a backbone, in the style of the published commands; see `published.py`."""

import published

if __name__ == "__main__":
    published.train("pretrain")
