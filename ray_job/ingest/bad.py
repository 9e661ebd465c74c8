"""Bad deliveries: files that cannot be brought in, and what is wrong with each, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from ray_job.bucket.errors import InputError


class BadFilesError(InputError):
    """`problems` says by name of a file what is wrong with it; an error tells of the first."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        name, problem = next(iter(self.problems.items()))
        others = len(self.problems) - 1
        more = f" (and {others} more {'file is' if others == 1 else 'files are'} bad)"
        super().__init__(f"{name}: {problem}{more if others else ''}")


def bad_file(name: str, problem: str) -> BadFilesError:
    return BadFilesError({name: problem})
