"""What is particular to an exchange and a market. Pure: no Trio, no clock, no file."""
