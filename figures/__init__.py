"""Figures and the HTML report, drawn from recorded evidence; nothing here runs a simulation."""
