"""Rounds at set times, in the foreground, for a service manager to keep alive.

``times`` reads cron lines, ``state`` is what the database keeps, ``scheduler`` decides, ``process`` runs a round,
``hooks`` tells of events, ``units`` writes files for other schedulers.
"""
