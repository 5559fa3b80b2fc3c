"""Classifies images with the models that Pinhole serves."""
