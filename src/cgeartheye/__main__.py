"""`python -m cgeartheye`, which is what torchrun starts."""

from cgeartheye.cli import run

if __name__ == "__main__":
    run()
