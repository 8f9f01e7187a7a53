"""Sound repaired where it helps: a plan, the edit, another look; the original is never touched."""
