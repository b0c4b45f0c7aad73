"""The warm process: it has loaded the command line once and forks it for every call.

``call`` is what the console script does first, ``serve`` the process that waits, ``live`` its fork
that becomes the called verb, ``wire`` what they say to each other (docs/decisions/0010).
"""
