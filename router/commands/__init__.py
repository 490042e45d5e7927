"""Commands of the router; each file holds one typer app."""
