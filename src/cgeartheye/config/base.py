"""Base class and types of all sections of a config."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cgeartheye.config.renamed import modernize

Triple = tuple[float, float, float]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]


def _in_order(shares: tuple[float, float]) -> tuple[float, float]:
    if not 0 < shares[0] <= shares[1] <= 1:
        raise ValueError("must be two rising shares of the image, above 0 and up to 1")
    return shares


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if not values[0] < values[1]:
        raise ValueError("must be two rising values")
    return values


def _rising_factors(factors: tuple[float, float]) -> tuple[float, float]:
    if not 0 < factors[0] <= factors[1]:
        raise ValueError("must be two rising factors above 0")
    return factors


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("must have a name at least; leave it out to have the names found")
    for name in names:
        # Half of a letter outside of Unicode's first plane can be written to no file.
        if not name.strip() or name.encode(errors="replace").decode() != name:
            raise ValueError("has a name without letters, or one that is no text")
    return names


Color = tuple[int, int, int]
Limits = Annotated[tuple[float, float], AfterValidator(_rising)]
Factors = Annotated[tuple[float, float], AfterValidator(_rising_factors)]
Names = Annotated[tuple[str, ...], AfterValidator(_names)]
Shares = Annotated[tuple[float, float], AfterValidator(_in_order)]


class Section(BaseModel):
    """A part of a config: immutable, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, values: Any) -> Any:
        return modernize(cls, values) if isinstance(values, dict) else values


class Run(Section):
    """Fields of every run, of any kind."""

    task: str
    work_dir: Path | None = Field(
        None, description="where all results go; none: runs/<name of the config file>"
    )
