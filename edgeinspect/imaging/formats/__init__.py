"""Image file formats: detection, headers, and what each file contains."""
