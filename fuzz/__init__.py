"""Feed the package inputs that nobody thought of: `python -m fuzz`; see README.md here."""
