"""`python -m cgeartheye`, which is what torchrun starts."""

from cgeartheye.cli import main

if __name__ == "__main__":
    main()
