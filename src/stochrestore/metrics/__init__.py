"""Measures of how restorations match a distribution and change when their input is moved."""
