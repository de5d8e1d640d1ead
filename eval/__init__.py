"""Evaluation, from fills to tables; CONTRIBUTING.md says which module does what."""

from importlib.util import find_spec


if absent := [name for name in ("accelerate", "datasets", "evaluate", "jinja2", "yaml") if find_spec(name) is None]:
    raise ModuleNotFoundError(f"Evaluation needs {', '.join(absent)}: pip install -c constraints.txt -e .[eval]")
