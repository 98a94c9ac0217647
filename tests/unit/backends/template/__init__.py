"""Tests of the backend for templates."""
