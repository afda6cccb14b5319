"""Stands for the tests of tests/functional that are for either datapath: see conftest.py."""
