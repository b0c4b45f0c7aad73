"""Writes a Metaflow flow of N steps in a line, each one ``true``: metaflow_line.py N > flow.py."""

import sys

HEAD = """import subprocess
from metaflow import FlowSpec, step

class Line(FlowSpec):"""
STEP = """
    @step{arguments}
    def {name}(self):
        subprocess.run(["true"], check=True){onward}"""


def flow(steps: int) -> str:
    """Give the program's text; a flow of one step is allowed since 2.19."""
    if steps == 1:
        body = STEP.format(arguments="(start=True, end=True)", name="only", onward="")
    else:
        names = ["start", *(f"step{index}" for index in range(steps - 2)), "end"]
        body = "".join(
            STEP.format(
                arguments="",
                name=name,
                onward=f"\n        self.next(self.{following})" if following else "",
            )
            for name, following in zip(names, [*names[1:], ""], strict=True)
        )
    return f'{HEAD}{body}\n\nif __name__ == "__main__":\n    Line()'


if __name__ == "__main__":
    print(flow(int(sys.argv[1])))
