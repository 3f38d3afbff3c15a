"""The one place where plb sends HTTP requests to backends.

Not imported by `import plb_core`; backend plugins import it. It holds the rules every
outgoing call obeys: no redirect is followed, every timeout is set, decoded bytes are
counted against a limit, cut bodies are detected, nothing of the client's headers is
forwarded, link-local addresses are never contacted and private ones only on request.
"""
