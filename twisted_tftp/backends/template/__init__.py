"""The backend that makes a file for each machine from a template (Jinja2, extra `templates`).

Modules here import rank 0, `protocol` and `backends`, and only the worker process imports Jinja2.
"""

from __future__ import annotations
