"""What adapters learned: similarity, spectra, layers, transfer, probes, errors, and the report that joins them.

Importing the room costs nothing; each analysis is a module of its own (`analysis.similarity`, ...), each a sub-command
of `boli analyze`.
"""
