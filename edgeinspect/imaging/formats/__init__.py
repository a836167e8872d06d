"""Image file formats: detection, headers, completeness, and decoding where OpenCV is ambiguous."""
