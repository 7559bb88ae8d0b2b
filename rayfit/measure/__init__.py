"""Measuring: one stage per kind of measurement, plain functions that an actor calls."""
