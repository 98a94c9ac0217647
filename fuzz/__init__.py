"""Run the package with random inputs, to find bugs: `python -m fuzz`; see README.md here."""
