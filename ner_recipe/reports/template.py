"""Pages from templates: text is escaped, and all have the same colours, in light and in dark.

html = render_template(Path("page.html"), title="...")
"""

from pathlib import Path

import jinja2

PALETTE = Path(__file__).resolve().parent / "palette.css"
COLOURS = 7  # of types, --t0 to --t6


def render_template(template: Path, **values: object) -> str:
    """Fill in a template. It takes the colours as `{{ palette | safe }}`."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    palette = PALETTE.read_text(encoding="utf-8").rstrip("\n")
    return environment.from_string(template.read_text(encoding="utf-8")).render(palette=palette, **values)
