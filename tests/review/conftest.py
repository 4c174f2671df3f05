"""The small project that the tests of this room run in."""

from smallproject import project, project_template, team_env

__all__ = ["project", "project_template", "team_env"]
