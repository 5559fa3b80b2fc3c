"""Owns Pinhole's accounts, roles and password hashes."""
