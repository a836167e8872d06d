"""Explanations of one inspection: Grad-CAM and occlusion maps."""
