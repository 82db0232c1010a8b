"""Companion to "Reasons for the Superiority of Stochastic Estimators over Deterministic Ones".

Importing the package imports nothing else: torch is loaded by the rooms that compute.
"""

__version__ = "0.1.0"
