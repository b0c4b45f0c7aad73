"""One line per verb, so that ``--help`` need not load them; a test keeps this table current."""

VERBS: dict[str, str] = {
    "init": "Write a first work file to start from.",
    "run": "Run a work file and follow it.",
    "plan": "Say what a work file would do, and do nothing.",
    "ps": "List runs.",
    "show": "Show all that is known of a run, a sweep, a pipeline or a service.",
    "logs": "Print what a run has written.",
    "stop": "Stop a run or a service, and all it started.",
    "get": "Copy what a run has left to a folder.",
    "data": "Keep, list, fetch and check data sets.",
    "model": "Keep, list, fetch and name models.",
    "predict": "Ask a service for predictions.",
    "secret": "Keep, list and remove secrets.",
    "site": "Make a cluster of machines, look at it, change it, take it away.",
    "bundle": "Make programs and images installable without internet; load the images.",
    "context": "List, add and choose the places where work goes; choose the cluster.",
    "doctor": "Check the place where work goes, and say what is missing.",
    "schema": "Print the JSON Schema of work and site files.",
    "fix": "Rewrite an older work file to today's version.",
    "drive": "Drive open runs (mlstead starts this itself).",
}

HIDDEN = frozenset({"drive"})
# Never given to the warm process: most may ask for text on the terminal, one lives long.
COLD = frozenset({"secret", "drive", "site", "bundle", "context"})
