"""The one place from which plb sends HTTP: a toolkit for backend plugins.

`client` is the way in; `settings` is what a backend's own settings extend. Not
imported by the core itself.
"""
