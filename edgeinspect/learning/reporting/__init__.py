"""Building blocks of HTML reports: tables, SVG plots, image overlays."""
