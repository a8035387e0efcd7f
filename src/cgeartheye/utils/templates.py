"""HTML pages from jinja2 templates that are part of a package."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(package: str, name: str, **values: Any) -> str:
    """Return a template filled in: values are escaped, and one that lacks is an error.

    Args:
        package: that has the template in its folder `templates`.
        name: of the template.
        values: by their names in the template.
    """
    return _environment(package).get_template(name).render(**values)


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
